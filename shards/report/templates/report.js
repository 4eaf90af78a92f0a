"use strict";
// Filters, the dialog of a photo, keys, light and dark. Everything works on what the page holds already.
(() => {
  const $ = (id) => document.getElementById(id);
  const photos = [...document.querySelectorAll(".photo")];
  const people = [...document.querySelectorAll(".person")];
  const groups = [...document.querySelectorAll(".group")];

  // --- light and dark
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const remembered = (() => { try { return localStorage.getItem("theme"); } catch { return null; } })();
  if (remembered === "light" || remembered === "dark") document.documentElement.dataset.theme = remembered;
  const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  function toggleTheme() {
    const theme = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    try { localStorage.setItem("theme", theme); } catch { /* a file may not remember */ }
    document.dispatchEvent(new Event("theme"));
  }
  $("theme").addEventListener("click", toggleTheme);
  dark.addEventListener("change", () => document.dispatchEvent(new Event("theme")));

  // --- filters
  const form = $("filters");
  function bound(id) {
    const value = $(id).value.trim();
    return value === "" || Number.isNaN(Number(value)) ? null : Number(value);
  }
  function matches(photo, outcome, least, most) {
    const {group, reason, score} = photo.dataset;
    if (outcome === "group:kept" && group !== "kept") return false;
    if (outcome === "group:not-kept" && group === "kept") return false;
    if (outcome.startsWith("reason:") && reason !== outcome.slice(7)) return false;
    if (least === null && most === null) return true;
    if (score === undefined) return false;
    return (least === null || Number(score) >= least) && (most === null || Number(score) <= most);
  }
  function filter() {
    if (!form) return;  // on the local site the server filters
    const name = $("by-name") ? $("by-name").value.trim().toLocaleLowerCase() : "";
    const outcome = $("by-reason").value, least = bound("by-least"), most = bound("by-most");
    const any = name || outcome || least !== null || most !== null;
    let shown = 0;
    for (const person of people) {
      const named = !name || person.dataset.name.toLocaleLowerCase().includes(name);
      let here = 0;
      for (const photo of person.querySelectorAll(".photo")) {
        photo.hidden = !(named && matches(photo, outcome, least, most));
        here += !photo.hidden;
      }
      person.hidden = Boolean(any) && (name && !outcome && least === null && most === null ? !named : !here);
      shown += here;
    }
    for (const group of groups) group.hidden = !group.querySelector(".photo:not([hidden])");
    $("shown").textContent = `${shown.toLocaleString("en")} of ${photos.length.toLocaleString("en")} photos`;
  }
  if (form) {
    form.addEventListener("input", filter);
    form.addEventListener("reset", () => setTimeout(() => { overlay(); filter(); }));
    form.addEventListener("submit", (event) => event.preventDefault());
  }
  document.addEventListener("pick", (event) => {
    if (!$("by-reason")) return;
    $("by-reason").value = `reason:${event.detail.value}`;
    filter();
    $("people").scrollIntoView();
    $("by-reason").focus();
  });

  // --- face box and keypoints
  function overlay() {
    if ($("show-overlay")) document.body.classList.toggle("no-overlay", !$("show-overlay").checked);
  }
  $("show-overlay")?.addEventListener("change", overlay);

  // --- one photo
  const dialog = $("photo-dialog");
  let current = null;
  function show(photo) {
    current = photo;
    const picture = photo.querySelector(".pair") ?? photo.querySelector(".frame");
    dialog.querySelector(".dialog-picture").replaceChildren(picture.cloneNode(true));
    dialog.querySelector(".dialog-text").replaceChildren(photo.querySelector("template").content.cloneNode(true));
    if (!dialog.open) dialog.showModal();
  }
  const visible = () => photos.filter((photo) => !photo.hidden && !photo.closest("[hidden]"));
  function step(by) {
    const all = visible(), at = all.indexOf(current) + by;
    if (all[at]) show(all[at]);
  }
  for (const photo of photos) photo.querySelector(".open").addEventListener("click", () => show(photo));
  for (const button of document.querySelectorAll("[data-step]")) button.addEventListener("click", () => step(Number(button.dataset.step)));
  for (const button of document.querySelectorAll("[data-close]")) button.addEventListener("click", () => button.closest("dialog").close());
  dialog.addEventListener("close", () => current?.querySelector(".open").focus());
  for (const box of document.querySelectorAll("dialog")) box.addEventListener("click", (event) => { if (event.target === box) box.close(); });
  $("help").addEventListener("click", () => $("keys-dialog").showModal());

  // --- keys
  function nextPerson(by) {
    const all = people.filter((person) => !person.hidden);
    if (!all.length) return;
    const focused = all.indexOf(document.activeElement.closest?.(".person"));
    const top = all.findIndex((person) => person.getBoundingClientRect().bottom > 120);
    const next = focused >= 0 ? focused + by : by > 0 ? Math.max(top, 0) : top - 1;
    const person = all[Math.min(Math.max(next, 0), all.length - 1)];
    person.scrollIntoView();
    person.focus({preventScroll: true});
  }
  function beside(by) {
    const photo = document.activeElement.closest?.(".photo");
    if (!photo) return false;
    const row = [...photo.parentElement.children].filter((other) => !other.hidden);
    row[row.indexOf(photo) + by]?.querySelector(".open").focus();
    return true;
  }
  const keys = {
    "/": () => ($("by-name") ?? $("by-reason"))?.focus(),
    n: () => nextPerson(1),
    p: () => nextPerson(-1),
    o: () => { if ($("show-overlay")) { $("show-overlay").checked = !$("show-overlay").checked; overlay(); } },
    t: toggleTheme,
    "?": () => $("keys-dialog").showModal(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
    const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (by && dialog.open) { step(by); event.preventDefault(); return; }
    if (by && beside(by)) { event.preventDefault(); return; }
    if (document.querySelector("dialog[open]") || !$("keys-on").checked || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });

  overlay();
  filter();
  document.documentElement.dataset.ready = "true";
})();
