/** Resolves with the first value that is as wanted. */
export const becomes = (readable, wanted) => new Promise((done) => {
  const off = readable.subscribe((value) => {
    if (!wanted(value)) return;
    queueMicrotask(() => off());
    done(value);
  });
});
