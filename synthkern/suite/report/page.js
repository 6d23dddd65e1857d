"use strict";

const find = (id) => document.getElementById(id);
const DARK = matchMedia("(prefers-color-scheme: dark)");
const NARROW = matchMedia("(max-width: 800px)");

// What page.py packed.
async function unpacked(id) {
  const bytes = Uint8Array.from(atob(find(id).textContent), (letter) => letter.charCodeAt(0));
  const text = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(text).json();
}

// Names with numbers in them are in the order of these; what is missing is last.
const { compare } = new Intl.Collator("en", { numeric: true });
const order = (sign) => (a, b) =>
  (a === null) - (b === null) || sign * (typeof a === "string" ? compare(a, b) : a - b);
DataTable.type("cell", {
  order: { asc: order(1), desc: order(-1) },
  search: DataTable.type("html").search,
});

// A cell is HTML, and what it is sorted by.
function table(id, columns, data, layout, pageLength = 50) {
  const render = ([shown, value], type) => (type === "display" || type === "filter" ? shown : value);
  return new DataTable(`#${id}`, {
    data,
    columns: columns.map((column) => ({ ...column, type: "cell", render })),
    order: [],
    autoWidth: false,
    pageLength,
    lengthMenu: [50, 200, 1000],
    layout: { topStart: null, topEnd: null, bottomStart: "paging", bottomEnd: null, ...layout },
    language: { info: "_START_ to _END_ of _TOTAL_", infoFiltered: "(_MAX_ in all)", emptyTable: "There are no runs." },
  });
}

function choice(text, options, chosen) {
  const label = document.createElement("label");
  const select = document.createElement("select");
  select.append(...options.map((option, number) => new Option(option, number)));
  select.addEventListener("change", () => chosen(select.selectedIndex));
  label.append(text, select);
  return label;
}

function showRuns({ columns, rows }) {
  const runs = table("runs", columns, rows, {
    topStart: "search",
    topEnd: "info",
    bottomEnd: "pageLength",
  });
  columns.forEach((column, at) => {
    const values = [...new Set(rows.map((row) => row[at][1]))];
    if (!column.choice || values.length < 2) return;
    const options = ["all", ...values.map((value) => value ?? "none")];
    const filter = choice(column.title, options, (number) => {
      const chosen = number ? (text, row) => row[at][1] === values[number - 1] : null;
      runs.column(at).search.fixed("chosen", chosen).draw();
    });
    find("filters").append(filter);
  });
  find("runs").addEventListener("click", (event) => {
    const row = runs.row(event.target.closest("tbody tr")).data();
    if (row) showDetails(row[row.length - 1]);
  });
}

function showDetails(run) {
  for (const place of find("details").querySelectorAll("[data-of]")) {
    const value = run[place.dataset.of];
    place.textContent = value instanceof Object ? JSON.stringify(value, null, 2) : value;
    place.parentElement.hidden = value === null;
  }
  find("details").showModal();
}

// A figure in the colours and the width of the page.
function draw(place, { data, layout }, templates) {
  const grid = { ...layout.grid };
  if (NARROW.matches) Object.assign(grid, { rows: layout.annotations.length, columns: 1 });
  const shown = {
    ...layout,
    grid,
    height: (layout.height / layout.grid.rows) * grid.rows,
    showlegend: false,
    template: templates[DARK.matches ? "dark" : "light"],
    // A finger on a figure scrolls the page.
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
  };
  place.style.height = `${shown.height}px`;
  return Plotly.react(place, data, shown, { responsive: true, displayModeBar: false });
}

// A button for each name, which hides what is of it.
function showLegend(place, figure, redraw) {
  const buttons = figure.legend.map(([group, name, color]) => {
    const traces = figure.data.filter((trace) => trace.legendgroup === group);
    const button = document.createElement("button");
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.color = color;
    button.append(swatch, name);
    button.title = name;
    const press = (shown) => {
      button.setAttribute("aria-pressed", shown);
      for (const trace of traces) trace.visible = shown;
    };
    press(traces[0].visible !== false);
    button.addEventListener("click", () => {
      press(traces[0].visible === false);
      redraw();
    });
    return button;
  });
  place.replaceChildren(...buttons);
}

async function start() {
  const { templates, columns, runs } = await unpacked("shared");
  const results = table("results", columns, [], {});
  let figures = [];

  function showFigures() {
    for (const section of find("figures").children) {
      const figure = figures.find(
        ({ kind, by_l0, l0 }) => kind === section.id && (!by_l0 || String(l0) === find("l0").value)
      );
      section.hidden = !figure;
      if (!figure) continue;
      section.querySelector("h2").textContent = figure.title;
      const [legend, plot] = section.querySelectorAll(".legend, .plot");
      const redraw = () => draw(plot, figure, templates);
      showLegend(legend, figure, redraw);
      redraw();
    }
  }

  async function showWorld() {
    const world = await unpacked(`world-${find("world").value}`);
    figures = world.figures;
    results.clear().rows.add(world.rows).order([]).draw();
    // The L0 stays where the other world has it too.
    const before = find("l0").value;
    const l0s = [...new Set(figures.filter(({ by_l0 }) => by_l0).map(({ l0 }) => l0))];
    find("l0").replaceChildren(...l0s.map((l0) => new Option(l0 ?? "none", l0)));
    if (l0s.map(String).includes(before)) find("l0").value = before;
    showFigures();
  }

  // A suite that varies fields has its own sections, whatever the world.
  const showSweep = find("sweeps") ? await sweeps((place, figure) => draw(place, figure, templates)) : null;
  const showSuite = () => showSweep?.(find("world").selectedOptions[0]?.parentElement.dataset.sweep);

  showRuns(runs);
  find("world").addEventListener("change", showWorld);
  find("l0").addEventListener("change", showFigures);
  for (const query of [DARK, NARROW]) query.addEventListener("change", showFigures);
  if (find("world").value) await showWorld();
  if (showSweep) {
    find("world").addEventListener("change", showSuite);
    for (const query of [DARK, NARROW]) query.addEventListener("change", showSuite);
    await showSuite();
  }
  document.body.classList.add("ready");
}

start();
