"use strict";
// Draws every figure in the page's own colours, again when these change.
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const root = document.documentElement;

  const color = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const resolve = (value) => {
    if (typeof value === "string") return value.startsWith("var:") ? color(value.slice(4)) : value;
    if (Array.isArray(value)) return value.map(resolve);
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
    margin: { l: 12, r: 16, t: 12, b: 12 },
    legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", ...own.legend },
    hoverlabel: { bgcolor: color("--surface"), bordercolor: color("--line"), font: { color: color("--text") } },
    xaxis: axis(own.xaxis), yaxis: axis(own.yaxis),
  });

  const draw = () => {
    for (const [id, figure] of Object.entries(figures)) {
      const own = resolve(figure);
      Plotly.react(`chart-${id}`, own.data, layout(own.layout), { displayModeBar: false, responsive: true });
    }
  };
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

  // Paper is white and narrower than a screen.
  addEventListener("beforeprint", () => { root.classList.add("paper"); document.querySelectorAll("details").forEach((d) => { d.open = true; }); draw(); });
  addEventListener("afterprint", () => { root.classList.remove("paper"); draw(); });
})();
