(function () {
  "use strict";
  const UNITS = { d: 86400, h: 3600, min: 60, s: 1 };

  // What a text is ordered by: its number, its seconds, or itself; undefined for nothing.
  function key(text) {
    const plain = text.trim();
    if (plain === "" || plain === "–") return undefined;
    if (/^(\d[\d.]* (d|h|min|s)( |$))+$/.test(plain)) {
      const parts = plain.split(" ");
      return parts.reduce((sum, part, i) => (i % 2 ? sum + Number(parts[i - 1]) * UNITS[part] : sum), 0);
    }
    const number = /^[-+]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?(?![\w.-])/.exec(plain);
    return number ? Number(number[0].replaceAll(",", "")) : plain;
  }

  function compare(a, b, down) {
    // What has nothing to sort by stays last, whichever way the column is sorted; numbers stand before words.
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    const words = (typeof a === "string") - (typeof b === "string");
    if (words) return words;
    const order = typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
    return down ? -order : order;
  }

  // A row of a table that stands in the page.
  function standing(element) {
    const cells = Array.from(element.cells);
    return {
      id: element.id,
      key: (column) => key(cells[column].dataset.sort === undefined ? cells[column].textContent : cells[column].dataset.sort),
      texts: () => cells.map((cell) => cell.textContent),
      element: () => element,
    };
  }

  // A row of the trial table that is made when it is looked at; see tables.packed.
  function packed([number, slug, state, mark, ...cells], numeric) {
    const text = (cell) => (Array.isArray(cell) ? cell[0] : cell);
    return {
      id: `trial-${number}`,
      key(column) {
        const found = [number, state, ...cells][column];
        return Array.isArray(found) ? found[1] : typeof found === "string" ? key(found) : found;
      },
      texts: () => [String(number), state, ...cells.map(text)],
      element() {
        const row = document.createElement("tr"), head = document.createElement("th");
        row.id = `trial-${number}`;
        if (mark === 2) row.className = "recommended";
        head.scope = "row";
        head.append(String(number));
        if (mark) {
          const sign = document.createElement("span");
          sign.className = "mark";
          sign.textContent = mark === 2 ? " ★" : " ●";
          head.append(sign);
        }
        const badge = document.createElement("span");
        badge.className = `badge ${slug}`;
        badge.textContent = state;
        row.append(head, row.insertCell());
        row.cells[1].append(badge);
        cells.forEach((told, i) => {
          const cell = row.insertCell();
          cell.textContent = text(told);
          if (numeric[i]) cell.className = "n";
        });
        return row;
      },
    };
  }

  // A table whose headings sort; ``pages`` shows some of its rows at a time.
  function sortable(table, rows, pages) {
    const body = table.tBodies[0], headings = Array.from(table.tHead.rows[0].cells);
    const size = pages ? Number(pages.dataset.rows) : Infinity;
    let shown = rows, first = 0;

    function show(from) {
      first = Math.max(0, from < shown.length ? from : first);
      if (first >= shown.length) first = 0;
      body.replaceChildren(...shown.slice(first, pages ? first + size : undefined).map((row) => row.element()));
      if (!pages) return;
      const last = Math.min(first + size, shown.length);
      const told = shown.length ? `Rows ${(first + 1).toLocaleString("en")} to ${last.toLocaleString("en")} of ${shown.length.toLocaleString("en")}` : "No row";
      pages.querySelector("[role=status]").textContent = told;
      for (const button of pages.querySelectorAll("button")) {
        const leads = first + Number(button.dataset.page) * size;
        button.disabled = leads < 0 || leads >= shown.length;
      }
    }

    function sort(column, down) {
      const keys = new Map(rows.map((row) => [row, row.key(column)]));
      const order = (a, b) => compare(keys.get(a), keys.get(b), down);
      rows.sort(order);
      if (shown !== rows) shown.sort(order);
      show(0);
    }

    headings.forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const down = heading.getAttribute("aria-sort") === "ascending";
        headings.forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
        sort(column, down);
      });
    });
    if (pages) {
      pages.addEventListener("click", (event) => {
        const step = event.target.dataset && event.target.dataset.page;
        if (step) show(first + Number(step) * size);
      });
      show(0);
    }
    table.classList.add("sortable");
    return {
      filter(fits) {
        shown = fits ? rows.filter(fits) : rows;
        show(0);
        return shown.length;
      },
      reveal(id) {
        let at = shown.findIndex((row) => row.id === id);
        if (at < 0) {
          shown = rows;
          at = shown.findIndex((row) => row.id === id);
        }
        if (at >= 0 && pages) show(Math.floor(at / size) * size);
        return at >= 0;
      },
    };
  }

  const trials = document.getElementById("trial-table"), data = document.getElementById("trial-rows");
  for (const table of document.querySelectorAll("main table")) {
    if (table !== trials && table.tHead && table.tBodies[0].rows.length > 1) {
      sortable(table, Array.from(table.tBodies[0].rows, standing));
    }
  }
  if (!trials) return;
  const held = data ? JSON.parse(data.textContent) : null;
  const rows = held ? held.rows.map((row) => packed(row, held.numeric)) : Array.from(trials.tBodies[0].rows, standing);
  const table = sortable(trials, rows, document.getElementById("trial-pages"));

  const filter = document.getElementById("filter"), matching = document.getElementById("matching");
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    // A number must be a whole cell (17 is trial 17, not 0.0017); any other word may stand anywhere.
    const fits = (row) => {
      row.low = row.low || row.texts().map((text) => text.toLowerCase().trim());
      return words.every((word) => row.low.some((text) => (isNaN(word) ? text.includes(word) : text.split(" ")[0] === word)));
    };
    const seen = table.filter(words.length ? fits : null);
    matching.textContent = words.length ? `${seen.toLocaleString("en")} of ${rows.length.toLocaleString("en")}` : "";
  });

  // A link to a trial whose row is not on the page right now brings it there.
  function reveal() {
    const id = location.hash.slice(1);
    if (!/^trial-\d+$/.test(id)) return;
    if (!document.getElementById(id) && !table.reveal(id)) return;
    document.querySelectorAll("tr.sought").forEach((row) => row.classList.remove("sought"));
    const row = document.getElementById(id);
    row.classList.add("sought");
    row.scrollIntoView({ block: "center" });
  }
  addEventListener("hashchange", reveal);
  reveal();
})();
