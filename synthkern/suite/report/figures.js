// The figures: what the data says of each trace is put together as figure.py does.

function filled(attributes, style) {
  if (Array.isArray(attributes)) return attributes.map((each) => filled(each, style));
  if (attributes && typeof attributes === "object") {
    return Object.fromEntries(
      Object.entries(attributes).map(([name, value]) => [name, filled(value, style)])
    );
  }
  const named = typeof attributes === "string" && attributes.startsWith("@");
  return named ? style[attributes.slice(1)] : attributes;
}

function traceOf(data, kind, [layer, number, values]) {
  const trace = filled(kind.layers[layer], data[kind.legend][number]);
  for (const [path, value] of Object.entries(values)) {
    const names = path.split(".");
    const last = names.pop();
    const within = names.reduce((part, name) => (part[name] = part[name] || {}), trace);
    within[last] = path === "x" ? data.shared[value] : value;
  }
  trace.showlegend = false;
  return trace;
}

function colorsOfPage() {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  return { text: color("--text"), muted: color("--muted"), line: color("--line"), surface: color("--surface") };
}

function layoutOf(data, kind, panel) {
  const colors = colorsOfPage();
  const axis = (own) => ({
    gridcolor: colors.line,
    linecolor: colors.line,
    zeroline: false,
    automargin: true,
    tickfont: { color: colors.muted, size: 11 },
    nticks: 6,
    ...own,
    title: { standoff: 6, ...own.title, font: { color: colors.muted, size: 11 } },
  });
  return {
    xaxis: axis({ ...(panel.log === "x" ? data.logarithm : {}), ...kind.axes[0] }),
    yaxis: axis({ ...(panel.log === "y" ? data.logarithm : {}), ...kind.axes[1] }),
    font: { family: getComputedStyle(document.body).fontFamily, color: colors.text, size: 12 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    hoverlabel: {
      bgcolor: colors.surface,
      bordercolor: colors.line,
      font: { color: colors.text },
      namelength: -1,
    },
    margin: { l: 48, r: 14, t: 12, b: 40 },
    hovermode: "closest",
    showlegend: false,
    // A finger on a figure scrolls the page.
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
  };
}

const PLOT_OPTIONS = { responsive: true, displayModeBar: false };

// Drawn one at a time, so that the page answers meanwhile.
const waiting = [];
let drawing = false;

function drawNext() {
  const next = waiting.shift();
  drawing = next !== undefined;
  if (!drawing) return;
  if (next.place.isConnected) Plotly.newPlot(next.place, next.traces(), next.layout(), PLOT_OPTIONS);
  setTimeout(drawNext, 0);
}

function draw(place, traces, layout) {
  waiting.push({ place, traces, layout });
  if (!drawing) {
    drawing = true;
    setTimeout(drawNext, 0);
  }
}

function showFigures(data, place, suite, world, l0) {
  place.querySelectorAll(".js-plotly-plot").forEach((plot) => Plotly.purge(plot));
  place.replaceChildren();
  for (const kind of data.kinds) {
    const figure = data.figures.find(
      (each) =>
        each.kind === kind.name &&
        each.suite === suite &&
        each.world === world &&
        (!kind.by_l0 || each.l0 === l0)
    );
    if (figure) place.append(figureSection(data, kind, figure));
  }
}

function figureSection(data, kind, figure) {
  const where = kind.by_l0 && figure.l0 !== null ? ` at L0 = ${l0Text(figure.l0)}` : "";
  const title = element("h2", { id: `${kind.name}-title` }, kind.title + where);
  const arranged = { 2: "panels even", 4: "panels even" };
  const hidden = new Set();
  const panels = element("div", { class: arranged[figure.panels.length] || "panels" });
  // Names below one another need the whole width.
  if (figure.panels[0].lines) panels.classList.add("one");
  for (const panel of figure.panels) {
    const plot = element("div", { class: "plot" });
    if (panel.lines) plot.style.height = `${80 + 34 * panel.lines}px`;
    const heading = panel.title ? element("h3", {}, panel.title) : null;
    panels.append(element("div", { class: "panel" }, heading, plot));
    draw(
      plot,
      () =>
        panel.series.map((series) => ({
          ...traceOf(data, kind, series),
          visible: !hidden.has(series[1]),
        })),
      () => layoutOf(data, kind, panel)
    );
  }
  const legend = kind.named ? null : legendOf(data, kind, figure, panels, hidden);
  return element(
    "section",
    { id: kind.name, "aria-labelledby": `${kind.name}-title` },
    title,
    element("p", { class: "caption" }, kind.caption),
    legend,
    panels
  );
}

// A button for each name, which hides it in all panels: those drawn, and those still to be.
function legendOf(data, kind, figure, panels, hidden) {
  const numbers = distinct(figure.panels.flatMap((panel) => panel.series.map(([, number]) => number)));
  const buttons = numbers
    .sort((a, b) => a - b)
    .map((number) => {
      const name = data.names[kind.legend][number];
      const button = element(
        "button",
        { type: "button", "aria-pressed": "true", title: name },
        swatch(data[kind.legend][number].color),
        name
      );
      button.addEventListener("click", () => {
        const shown = hidden.delete(number);
        if (!shown) hidden.add(number);
        button.setAttribute("aria-pressed", shown);
        figure.panels.forEach((panel, index) => {
          const at = panel.series.flatMap((series, i) => (series[1] === number ? [i] : []));
          const plot = panels.children[index].querySelector(".plot");
          if (at.length && plot.data) Plotly.restyle(plot, { visible: shown }, at);
        });
      });
      return button;
    });
  return element("div", { class: "legend", role: "group", "aria-label": "Shown" }, buttons);
}

// Plots take the colours of a page that turns dark or light.
function recolor(place) {
  const colors = colorsOfPage();
  const changes = { "font.color": colors.text, "hoverlabel.bgcolor": colors.surface };
  for (const axis of ["xaxis", "yaxis"]) {
    changes[`${axis}.gridcolor`] = colors.line;
    changes[`${axis}.tickfont.color`] = colors.muted;
    changes[`${axis}.title.font.color`] = colors.muted;
  }
  place.querySelectorAll(".js-plotly-plot").forEach((plot) => Plotly.relayout(plot, changes));
}
