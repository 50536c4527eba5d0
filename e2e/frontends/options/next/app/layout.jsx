import '../style.css';

export const metadata = { title: 'Mini chat' };

export default function Layout({ children }) {
  return <html lang="en"><body>{children}</body></html>;
}
