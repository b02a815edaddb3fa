/* Where a browser refuses to store anything (third-party frames, sandboxes, strict settings), the
   theme would throw at its first line. A store that forgets takes the refused one's place. */
for (const name of ["localStorage", "sessionStorage"]) {
  try {
    window[name].setItem("em2vae", "");
    window[name].removeItem("em2vae");
  } catch {
    const values = new Map();
    const store = {
      getItem: (key) => values.get(String(key)) ?? null,
      setItem: (key, value) => void values.set(String(key), String(value)),
      removeItem: (key) => void values.delete(String(key)),
      clear: () => values.clear(),
      key: (index) => [...values.keys()][index] ?? null,
      get length() {
        return values.size;
      },
    };
    Object.defineProperty(window, name, { value: store, configurable: true });
  }
}
