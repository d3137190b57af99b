"use strict";
(() => {
  const all = (query, root = document) => [...root.querySelectorAll(query)];
  all(".controls, .only-script").forEach((part) => (part.hidden = false));

  // sorting: the number of data-v, else the number in the text, else the text; empty cells last
  const value = (cell) => {
    const text = (cell.dataset.v ?? cell.textContent).trim();
    if (text === "" || text === "–") return null;
    const number = Number(text.replace("−", "-").replace(/[%\s]+$/, ""));
    return Number.isNaN(number) ? text.toLowerCase() : number;
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  const sort = (table, column, button) => {
    const heading = button.parentElement;
    const now = heading.getAttribute("aria-sort");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row, place) => [value(row.cells[column]), row, place]);
    const numeric = rows.some(([key]) => typeof key === "number");
    const up = now ? now === "descending" : !numeric;
    all("[aria-sort]", table).forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    rows.sort(([a, , i], [b, , j]) => {
      if (a === null || b === null) return a === b ? i - j : a === null ? 1 : -1;
      return (up ? 1 : -1) * compare(a, b) || i - j;
    });
    body.append(...rows.map(([, row]) => row));
  };
  all("table.sortable").forEach((table) =>
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      if (heading.dataset.label) button.setAttribute("aria-label", `sort by ${heading.dataset.label}`);
      button.addEventListener("click", () => sort(table, column, button));
      heading.append(button);
    }),
  );

  // searching rows and tiles by any of their text
  all("[data-filters]").forEach((input) =>
    input.addEventListener("input", () => {
      const wanted = input.value.trim().toLowerCase();
      all(input.dataset.filters).forEach((part) => (part.hidden = !part.textContent.toLowerCase().includes(wanted)));
    }),
  );

  // a link to a row or tile that a search has hidden
  addEventListener("hashchange", () => {
    const target = document.getElementById(location.hash.slice(1));
    if (target?.hidden) target.hidden = false;
  });

  const table = document.getElementById("w");
  if (!table) return;
  const rows = [...table.tBodies[0].rows];
  const heads = [...table.tHead.rows[0].cells];
  const search = document.getElementById("w-class");
  const choice = document.getElementById("w-feature");
  const count = document.getElementById("w-count");

  // filtering: the classes asked for, and only the features that one of them weighs
  const filter = () => {
    const wanted = search.value.trim().toLowerCase();
    const column = choice.value === "" ? -1 : Number(choice.value) + 2;
    rows.forEach((row) => {
      const named = row.cells[0].dataset.label.toLowerCase().includes(wanted);
      row.hidden = !named || (column > 0 && !row.cells[column].dataset.v);
    });
    const shown = rows.filter((row) => !row.hidden);
    const narrowed = wanted !== "" || column > 0;
    heads.forEach((head, place) => {
      if (place < 2) return;
      const hide = narrowed && !shown.some((row) => row.cells[place].dataset.v);
      if (head.hidden === hide) return;
      head.hidden = hide;
      rows.forEach((row) => (row.cells[place].hidden = hide));
    });
    const features = heads.slice(2).filter((head) => !head.hidden).length;
    const counted = (number, one, more) => `${number} ${number === 1 ? one : more}`;
    count.textContent = narrowed
      ? `${counted(shown.length, "class", "classes")}, ${counted(features, "feature", "features")}`
      : "";
  };
  search.addEventListener("input", filter);
  choice.addEventListener("change", filter);
  document.getElementById("w-clear").addEventListener("click", () => {
    search.value = choice.value = "";
    filter();
  });

  // what a cell says, under the pointer and under the keyboard's focus
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.setAttribute("role", "status");
  tip.hidden = true;
  document.body.append(tip);
  const says = (cell) => {
    const row = cell.parentElement.cells[0].dataset.label;
    const feature = heads[cell.cellIndex].dataset.label;
    return `${row} · ${feature} · ${cell.dataset.v ? cell.textContent : "0"}`;
  };
  const isCell = (cell) => cell && cell.tagName === "TD" && cell.cellIndex > 1 && table.contains(cell);
  const show = (cell) => {
    tip.textContent = says(cell);
    tip.hidden = false;
    const box = cell.getBoundingClientRect();
    const left = Math.min(box.left, document.documentElement.clientWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${box.top > 40 ? box.top - tip.offsetHeight - 4 : box.bottom + 4}px`;
  };
  const hide = () => (tip.hidden = true);
  table.addEventListener("pointerover", (event) => (isCell(event.target) ? show(event.target) : hide()));
  table.addEventListener("pointerleave", hide);
  table.addEventListener("focusin", (event) => isCell(event.target) && show(event.target));
  table.addEventListener("focusout", hide);
  table.parentElement.addEventListener("scroll", hide);

  // one cell takes the focus; arrows, Home and End move it
  let current = rows[0]?.cells[2];
  if (!current) return;
  const focus = (cell) => {
    current.removeAttribute("tabindex");
    current = cell;
    current.tabIndex = 0;
    current.focus();
    current.scrollIntoView({ block: "nearest", inline: "nearest" });
  };
  current.tabIndex = 0;
  table.addEventListener("click", (event) => isCell(event.target) && focus(event.target));
  table.addEventListener("keydown", (event) => {
    const cell = event.target;
    if (!isCell(cell)) return;
    const shown = [...table.tBodies[0].rows].filter((row) => !row.hidden);
    const columns = [...cell.parentElement.cells].filter((one) => one.cellIndex > 1 && !one.hidden);
    let row = shown.indexOf(cell.parentElement);
    let column = columns.indexOf(cell);
    if (event.key === "ArrowDown") row += 1;
    else if (event.key === "ArrowUp") row -= 1;
    else if (event.key === "ArrowRight") column += 1;
    else if (event.key === "ArrowLeft") column -= 1;
    else if (event.key === "Home") column = 0;
    else if (event.key === "End") column = columns.length - 1;
    else if (event.key === "Escape") return hide();
    else return;
    event.preventDefault();
    row = Math.max(0, Math.min(shown.length - 1, row));
    column = Math.max(0, Math.min(columns.length - 1, column));
    focus(shown[row].cells[columns[column].cellIndex]);
  });
})();
