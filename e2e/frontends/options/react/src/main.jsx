import { createRoot } from 'react-dom/client';
import '../../shared/style.css';
import Chat from './chat.jsx';

createRoot(document.body).render(<Chat />);
