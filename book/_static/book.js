/* Landmarks and roles that the theme leaves out or gets wrong. */
document.addEventListener("DOMContentLoaded", () => {
  const sidebar = document.getElementById("pst-primary-sidebar");
  sidebar?.setAttribute("role", "navigation");
  sidebar?.setAttribute("aria-label", "Book");
  for (const entry of document.querySelectorAll('[role="doc-biblioentry"]')) {
    entry.setAttribute("role", "listitem"); // its parent is a list, and doc-biblioentry is obsolete
  }
});

/* Paper is white, whatever the screen is: print the light page. */
(() => {
  const root = document.documentElement;
  let theme = null; // of the screen, while it is printed
  function print(printing) {
    if (printing && root.dataset.theme !== "light") {
      theme = root.dataset.theme;
      root.dataset.theme = "light";
    } else if (!printing && theme) {
      root.dataset.theme = theme;
      theme = null;
    }
  }
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
  matchMedia("print").addEventListener("change", ({ matches }) => print(matches));
})();
