import { mount } from 'svelte';
import '../../shared/style.css';
import Chat from './Chat.svelte';

mount(Chat, { target: document.body });
