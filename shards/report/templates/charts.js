"use strict";
// Draws charts with Plotly once the page is painted and a chart comes near. Knows what a bar is, not what it counts.
(() => {
  const element = document.getElementById("chart-data");
  const data = element ? JSON.parse(element.textContent) : {};
  const plots = [...document.querySelectorAll(".plot")].filter((plot) => data[plot.dataset.chart]);
  const drawn = new Set();
  let library = null;

  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colour = (role) => style(`--chart-${role}`);
  // Plotly reads labels as a small HTML: what they hold is text.
  const plain = (text) => typeof text !== "string" ? text
    : text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  async function load() {
    const script = document.createElement("script");
    const packed = document.getElementById("plotly-packed");
    if (packed) {
      if (!("DecompressionStream" in window)) throw new Error("this browser cannot unpack the charts' library");
      const bytes = Uint8Array.from(atob(packed.textContent.trim()), (c) => c.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      script.textContent = await new Response(stream).text();
      document.body.append(script);
    } else {
      script.src = document.body.dataset.plotly;
      await new Promise((resolve, reject) => {
        script.onload = resolve;
        script.onerror = () => reject(new Error("the charts' library is not there"));
        document.body.append(script);
      });
    }
    return window.Plotly;
  }

  function traces(chart) {
    return chart.series.map((series) => {
      const labels = chart.labels.map(plain);
      const notes = series.notes.length ? series.notes.map((note) => note ? `<br>${plain(note)}` : "") : labels.map(() => "");
      const trace = {
        type: "bar", name: plain(series.name), customdata: notes, marker: {color: colour(series.role)},
        orientation: chart.horizontal ? "h" : "v", textposition: "none",
      };
      const [across, along] = chart.horizontal ? ["y", "x"] : ["x", "y"];
      trace[across] = labels;
      trace[along] = series.values;
      const what = typeof chart.labels[0] === "number" ? `%{${across}:.4~g}` : `%{${across}}`;
      trace.hovertemplate = `${what}: <b>%{${along}:,}</b> ${plain(series.name)}%{customdata}<extra></extra>`;
      return trace;
    });
  }

  function layout(chart) {
    const axis = {color: style("--quiet"), gridcolor: style("--line"), zerolinecolor: style("--line"), automargin: true, fixedrange: false};
    const across = {...axis, title: {text: plain(chart.horizontal ? "" : chart.x), standoff: 8}, showgrid: false};
    const along = {...axis, title: {text: plain(chart.horizontal ? chart.x || chart.y : chart.y), standoff: 8}, rangemode: "tozero"};
    const most = Math.max(...chart.labels.map((_, n) => chart.series.reduce((sum, s) => chart.stacked ? sum + s.values[n] : Math.max(sum, s.values[n]), 0)));
    if (most < 5) along.dtick = 1;
    if (chart.horizontal) across.autorange = "reversed";
    if (typeof chart.labels[0] === "string") across.type = "category";
    else across.nticks = 7;
    const shown = {
      font: {family: "system-ui, sans-serif", size: 12, color: style("--ink")},
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      margin: {l: 8, r: 12, t: 12, b: 8}, bargap: chart.horizontal ? 0.3 : 0.06,
      barmode: chart.stacked ? "stack" : "group",
      showlegend: chart.series.length > 1, legend: {orientation: "h", y: 1.02, yanchor: "bottom", x: 0, traceorder: "normal"},
      hoverlabel: {bgcolor: style("--raised"), bordercolor: style("--line"), font: {color: style("--ink")}},
      xaxis: chart.horizontal ? along : across, yaxis: chart.horizontal ? across : along,
      height: chart.height,
      dragmode: false,
    };
    if (chart.line !== null) {
      shown.shapes = [{type: "line", x0: chart.line, x1: chart.line, yref: "paper", y0: 0, y1: 1, line: {color: style("--ink"), width: 1.5, dash: "dot"}}];
      shown.annotations = [{x: chart.line, yref: "paper", y: 1, yanchor: "bottom", text: plain(chart.lineLabel), showarrow: false, font: {size: 11}}];
      shown.margin.t = 24;
      if (chart.series.length > 1) shown.legend.y = 1.12;
    }
    return shown;
  }

  async function draw(plot) {
    const chart = data[plot.dataset.chart];
    try {
      library ??= load();
      const plotly = await library;
      await plotly.react(plot, traces(chart), layout(chart), {displayModeBar: false, responsive: true});
    } catch (error) {
      plot.textContent = `The chart cannot be drawn (${error.message}); the numbers are below.`;
      return;
    }
    if (!drawn.has(plot) && chart.picks) {
      plot.on("plotly_click", (event) => {
        const label = chart.full[event.points[0].pointNumber];
        document.dispatchEvent(new CustomEvent("pick", {detail: {filter: chart.picks, value: label}}));
      });
      plot.classList.add("picks");
    }
    drawn.add(plot);
    plot.dataset.drawn = "true";
  }

  document.addEventListener("theme", () => drawn.forEach(draw));
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { near.unobserve(entry.target); draw(entry.target); }
  }, {rootMargin: "300px"});
  // Two frames and a task: the page is painted before anything of this costs it time.
  requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => plots.forEach((plot) => near.observe(plot)))));
})();
