"use strict";
// Draws every figure in the page's own colours, again when these change.
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const root = document.documentElement;

  // A custom property is text, such as light-dark(…); as the colour of an element it becomes one.
  const probe = document.body.appendChild(document.createElement("span"));
  probe.hidden = true;
  let known = new Map();
  const color = (name) => {
    if (!known.has(name)) {
      probe.style.color = `var(${name})`;
      known.set(name, getComputedStyle(probe).color);
    }
    return known.get(name);
  };
  const resolve = (value) => {
    if (typeof value === "string") return value.startsWith("var:") ? color(value.slice(4)) : value;
    if (Array.isArray(value)) return value.every((one) => typeof one === "number") ? value : value.map(resolve);
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, resolve(inner)]));
    return value;
  };

  const axis = (own) => ({
    gridcolor: color("--line"), linecolor: color("--line"), zerolinecolor: color("--line"),
    automargin: true, fixedrange: true, ...own,
    title: { standoff: 10, ...(own && own.title), font: { size: 12, color: color("--muted") } },
  });

  const layout = (own) => ({
    ...own,
    autosize: true,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: color("--text") },
    margin: { l: 12, r: 16, t: own.annotations && own.annotations.length ? 18 : 12, b: 12 },
    legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", ...own.legend },
    hoverlabel: { bgcolor: color("--surface"), bordercolor: color("--line"), font: { color: color("--text") } },
    xaxis: axis(own.xaxis), yaxis: axis(own.yaxis),
  });

  const draw = ([id, figure]) => {
    const own = resolve(figure);
    const place = document.getElementById(`chart-${id}`);
    Plotly.react(place, own.data, layout(own.layout), { displayModeBar: false, responsive: true });
  };

  // One figure after the other, so that a page of many stays alive; the last call wins.
  let turn = 0;
  const drawAll = () => {
    const mine = ++turn;
    known = new Map();
    delete root.dataset.drawn;
    const next = (i) => {
      if (mine !== turn) return;
      if (i === figures.length) { root.dataset.drawn = "all"; return; }
      draw(figures[i]);
      setTimeout(next, 0, i + 1);
    };
    next(0);
  };
  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  document.querySelectorAll("[name=theme]").forEach((choice) => choice.addEventListener("change", drawAll));

  // Paper is white and narrower than a screen. Assembly stays as the reader left it: it may be long.
  let opened = [];
  const onPaper = (yes) => { root.classList.toggle("paper", yes); turn++; known = new Map(); figures.forEach(draw); root.dataset.drawn = "all"; };
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not(.fold):not([open])")];
    opened.forEach((fold) => { fold.open = true; });
    onPaper(true);
  });
  addEventListener("afterprint", () => { opened.forEach((fold) => { fold.open = false; }); onPaper(false); });
})();
