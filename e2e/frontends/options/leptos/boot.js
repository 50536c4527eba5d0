import start from './chat.js';

await start({ module_or_path: '/chat_bg.wasm' });
