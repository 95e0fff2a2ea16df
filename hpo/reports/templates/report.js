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
      made[key].title = Object.assign({ standoff: 12, font: { size: narrow.matches ? 12 : 13, color: muted } }, made[key].title);
    }
    if (layout.scene) {
      made.margin = { t: 10, r: 0, b: 0, l: 0 };
      made.scene = Object.assign({}, layout.scene);
      if (narrow.matches && layout.scene.camera) {
        // From farther off, or a narrow screen cuts the axes.
        const { x, y, z } = layout.scene.camera.eye;
        made.scene.camera = Object.assign({}, layout.scene.camera, { eye: { x: 1.45 * x, y: 1.45 * y, z: 1.45 * z } });
      }
      for (const key of ["xaxis", "yaxis", "zaxis"]) {
        const look = { gridcolor: style.getPropertyValue("--faint").trim(), color: text, showbackground: false };
        made.scene[key] = Object.assign(look, { zeroline: false }, layout.scene[key]);
      }
    }
    return made;
  }

  function draw(canvas) {
    const name = canvas.dataset.figure, views = figures[name];
    const view = views[Math.min(chosen[name] || 0, views.length - 1)];
    const style = getComputedStyle(document.documentElement);
    const ready = coloured(view, style);
    return Plotly.react(canvas, ready.data, dressed(ready.layout, style), {
      responsive: true, displaylogo: false, displayModeBar: touch.matches ? false : "hover",
      modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"],
    });
  }

  const canvases = Array.from(document.querySelectorAll("[data-figure]"));
  // What needs WebGL takes a second to start where there is no graphics card: the others first.
  const heavy = (canvas) => figures[canvas.dataset.figure][0].data.some((trace) => /3d|parcoords/.test(trace.type));
  const order = [...canvases.filter((canvas) => !heavy(canvas)), ...canvases.filter(heavy)];

  // One after the other, with a pause between: the page can be read and scrolled meanwhile.
  function drawAll(at) {
    if (at >= order.length) {
      document.documentElement.dataset.drawn = "true";
      return;
    }
    Promise.resolve(draw(order[at])).finally(() => requestAnimationFrame(() => setTimeout(drawAll, 0, at + 1)));
  }
  drawAll(0);
  for (const media of [dark, narrow]) media.addEventListener("change", () => drawAll(0));
  // Paper has its own width and is white: every figure once more, at once.
  matchMedia("print").addEventListener("change", () => order.forEach(draw));

  // Several choices beside each other make one view: their product, the last one moving fastest.
  const selects = Array.from(document.querySelectorAll("[data-views]"));
  for (const select of selects) {
    select.addEventListener("change", () => {
      const group = selects.filter((other) => other.dataset.views === select.dataset.views);
      const index = group.reduce((sum, one) => sum * one.options.length + one.selectedIndex, 0);
      for (const name of select.dataset.views.split(" ")) {
        chosen[name] = index;
        draw(document.querySelector(`[data-figure="${name}"]`));
      }
    });
  }
})();
