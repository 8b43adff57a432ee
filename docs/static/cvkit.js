// What scrolls sideways can be reached by the keyboard and has a name; so has what opens a part of the navigation.
function scrollable() {
  document.querySelectorAll(".bd-article div.cell_output, .bd-article .cvkit .wide, .bd-article .highlight pre").forEach((box) => {
    const scrolls = box.scrollWidth > box.clientWidth + 1;
    if (scrolls === (box.dataset.scrolls === "yes")) return;
    box.dataset.scrolls = scrolls ? "yes" : "no";
    if (scrolls) Object.entries({ tabindex: "0", role: "group", "aria-label": "scrolls sideways" }).forEach(([name, value]) => box.setAttribute(name, value));
    else ["tabindex", "role", "aria-label"].forEach((name) => box.removeAttribute(name));
  });
}
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".bd-links summary, .bd-sidebar-primary summary").forEach((summary) => {
    const link = summary.closest("li")?.querySelector("a");
    summary.setAttribute("aria-label", `pages of ${link ? link.textContent.trim() : "this part"}`);
  });
});
window.addEventListener("load", scrollable);
window.addEventListener("resize", scrollable);
