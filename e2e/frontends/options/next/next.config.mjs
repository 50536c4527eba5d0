// MODE=export makes files for any server; without it, an application for `next start`.
export default process.env.MODE === 'export' ? { output: 'export' } : {};
