(function () {
  "use strict";
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 720px)");
  const touch = matchMedia("(pointer: coarse)");
  const chosen = {};

  // Figures name their colours as CSS variables, so that light and dark each have their own.
  function coloured(value, style) {
    if (typeof value === "string") {
      return value.startsWith("var(--") ? style.getPropertyValue(value.slice(4, -1)).trim() : value;
    }
    if (Array.isArray(value)) return value.map((inner) => coloured(inner, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, coloured(inner, style)]));
    }
    return value;
  }

  function axis(style) {
    const grid = style.getPropertyValue("--grid").trim();
    return { gridcolor: grid, linecolor: grid, zeroline: false, automargin: true, ticks: "" };
  }

  function dressed(layout, style) {
    const text = style.getPropertyValue("--text").trim(), muted = style.getPropertyValue("--muted").trim();
    const surface = style.getPropertyValue("--surface").trim(), clear = "rgba(0,0,0,0)";
    const base = {
      paper_bgcolor: clear, plot_bgcolor: clear, autosize: true,
      font: { family: style.getPropertyValue("--font").trim(), size: narrow.matches ? 11.5 : 13, color: text },
      margin: narrow.matches ? { t: 16, r: 10, b: 44, l: 50 } : { t: 20, r: 20, b: 52, l: 64 },
      hoverlabel: { bgcolor: surface, bordercolor: muted, font: { color: text, size: 13 }, align: "left" },
      modebar: { bgcolor: clear, color: muted, activecolor: text, orientation: "v" },
      // Touch belongs to the page: a finger on a figure must scroll, not zoom.
      dragmode: touch.matches && !layout.scene ? false : layout.scene ? "turntable" : "zoom",
    };
    const made = Object.assign({}, base, layout);
    made.legend = Object.assign({ orientation: "h", x: 0, y: 1.02, yanchor: "bottom", bgcolor: clear }, layout.legend);
    for (const key of ["xaxis", "yaxis"]) {
      if (layout.scene) continue;
      made[key] = Object.assign(axis(style), layout[key]);
      made[key].title = Object.assign({ font: { size: narrow.matches ? 12 : 13, color: muted } }, made[key].title);
    }
    if (layout.scene) {
      made.margin = { t: 10, r: 0, b: 0, l: 0 };
      made.scene = Object.assign({}, layout.scene);
      for (const key of ["xaxis", "yaxis", "zaxis"]) {
        const look = { gridcolor: style.getPropertyValue("--faint").trim(), color: text, showbackground: false };
        made.scene[key] = Object.assign(look, { zeroline: false }, layout.scene[key]);
      }
    }
    return made;
  }

  function draw(canvas) {
    const name = canvas.dataset.figure, view = figures[name][chosen[name] || 0];
    const style = getComputedStyle(document.documentElement);
    const ready = coloured(view, style);
    return Plotly.react(canvas, ready.data, dressed(ready.layout, style), {
      responsive: true, displaylogo: false, displayModeBar: touch.matches ? false : "hover",
      modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"],
    });
  }

  const canvases = Array.from(document.querySelectorAll("[data-figure]"));

  // One after the other, with a pause between: the page can be read and scrolled meanwhile.
  function drawAll(at) {
    if (at >= canvases.length) {
      document.documentElement.dataset.drawn = "true";
      return;
    }
    Promise.resolve(draw(canvases[at])).finally(() => setTimeout(drawAll, 0, at + 1));
  }
  drawAll(0);
  for (const media of [dark, narrow]) media.addEventListener("change", () => drawAll(0));
  for (const select of document.querySelectorAll("[data-views]")) {
    select.addEventListener("change", () => {
      chosen[select.dataset.views] = Number(select.value);
      draw(document.querySelector(`[data-figure="${select.dataset.views}"]`));
    });
  }

  const table = document.getElementById("trial-table");
  if (!table) return;
  const body = table.tBodies[0], headings = Array.from(table.tHead.rows[0].cells);

  function compare(a, b, down) {
    // What has nothing to sort by stays last, whichever way the column is sorted.
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    const order = a !== "" && b !== "" && !isNaN(a) && !isNaN(b) ? a - b : a.localeCompare(b);
    return down ? -order : order;
  }

  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.sort;
      body.append(...Array.from(body.rows).sort((a, b) => compare(key(a), key(b), down)));
    });
  });

  const filter = document.getElementById("filter"), matching = document.getElementById("matching");
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let seen = 0;
    for (const row of body.rows) {
      const cells = Array.from(row.cells, (cell) => cell.textContent.toLowerCase().trim());
      // A number must be a whole cell (17 is trial 17, not 0.0017); any other word may stand anywhere.
      const fits = (word) => cells.some((cell) => (isNaN(word) ? cell.includes(word) : cell.split(" ")[0] === word));
      row.hidden = !words.every(fits);
      seen += !row.hidden;
    }
    matching.textContent = words.length ? `${seen} of ${body.rows.length}` : "";
  });
})();
