/** Lets the client's hooks find React and Vue, which are packages of this folder and not of theirs. */
import { register } from 'node:module';

register(`data:text/javascript,${encodeURIComponent(`
  export const resolve = (name, context, next) => next(name, ['react', 'vue', 'ws'].includes(name) ? { ...context, parentURL: ${JSON.stringify(import.meta.url)} } : context);
`)}`);
