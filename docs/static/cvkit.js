// What scrolls sideways can be reached by the keyboard and has a name.
function scrollable() {
  document.querySelectorAll(".bd-article div.cell_output, .bd-article .cvkit .wide, .bd-article .highlight pre").forEach((box) => {
    if (box.scrollWidth <= box.clientWidth + 1) { if (box.dataset.scrolls) { box.removeAttribute("tabindex"); box.removeAttribute("role"); box.removeAttribute("aria-label"); } return; }
    box.dataset.scrolls = "yes";
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", "scrolls sideways");
  });
}
window.addEventListener("load", scrollable);
window.addEventListener("resize", scrollable);
