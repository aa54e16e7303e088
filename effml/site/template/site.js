"use strict";
// The look: as the system has it, until the reader chooses. A file:// page may keep no memory.
const page = document.documentElement, root = document.currentScript.dataset.root;
const memory = {
  get: () => { try { return localStorage.getItem("look"); } catch { return null; } },
  set: (look) => { try { localStorage.setItem("look", look); } catch { /* for this page only */ } },
};
if (memory.get()) page.dataset.look = memory.get();
const dark = () =>
  (page.dataset.look || (matchMedia("(prefers-color-scheme: dark)").matches && "dark")) === "dark";

function looks(button) {
  const name = () => { button.textContent = dark() ? "Light" : "Dark"; };
  button.hidden = false;
  name();
  button.onclick = () => {
    page.dataset.look = dark() ? "light" : "dark";
    memory.set(page.dataset.look);
    name();
  };
}

// The search reads search.js when it is opened first: a script, because file:// forbids fetch.
function found(words) {
  const hits = [];
  for (const [to, title, name, heading, text] of PAGES) {
    const above = `${title} ${heading}`.toLowerCase(), all = `${above} ${text.toLowerCase()}`;
    if (!words.every((word) => all.includes(word))) continue;
    hits.push([words.filter((word) => above.includes(word)).length, to, name, title, heading, text]);
  }
  return hits.sort((a, b) => b[0] - a[0]);
}

function show(list, count, query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const hits = words.length ? found(words) : [];
  count.textContent = words.length ? `${hits.length} places` : "";
  list.replaceChildren(...hits.slice(0, 30).map(([, to, name, title, heading, text]) => {
    const item = document.createElement("li"), link = document.createElement("a");
    link.href = `${root}${to}#${name}`;
    link.textContent = title === heading ? title : `${title} › ${heading}`;
    const at = Math.max(0, text.toLowerCase().indexOf(words[0]) - 60), told = document.createElement("p");
    told.textContent = (at ? "… " : "") + text.slice(at, at + 180) + " …";
    item.append(link, told);
    return item;
  }));
}

function search(button, box) {
  const input = box.querySelector("input"), list = box.querySelector("ol");
  const count = box.querySelector("#site-count"), look = () => show(list, count, input.value);
  const open = () => {
    box.showModal();
    if (typeof PAGES === "undefined" && !document.querySelector("script[data-index]")) {
      const script = Object.assign(document.createElement("script"), { src: `${root}search.js` });
      script.dataset.index = "";
      script.onload = () => { input.oninput = look; look(); };
      document.head.append(script);
    }
  };
  button.hidden = false;
  button.onclick = open;
  input.onkeydown = (event) => { if (event.key === "Enter") event.preventDefault(); };
  list.onclick = (event) => { if (event.target.closest("a")) box.close(); };
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || box.open || event.target.closest("input")) return;
    event.preventDefault();
    open();
  });
}

// What scrolls sideways can be reached by keyboard.
function reachable() {
  for (const box of document.querySelectorAll(".box, .long, pre")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}

addEventListener("DOMContentLoaded", () => {
  looks(document.getElementById("site-look"));
  search(document.getElementById("site-find"), document.getElementById("site-search"));
  const run = document.querySelector(".run a");
  if (run && location.protocol === "file:") {
    run.parentElement.textContent = "This notebook can run in the browser if its pages come from a " +
      "server: say python -m http.server in their folder, then open localhost:8000.";
  }
  reachable();
  addEventListener("load", reachable);
  addEventListener("resize", reachable);
});
