"use strict";

// Any view of a sweep, drawn as report/sweeps.py draws the one that was asked for.
class Sweep {
  constructor(payload, constants) {
    Object.assign(this, payload, constants);
    this.byName = Object.fromEntries(this.variables.map((each) => [each.name, each]));
    this.rows = this.variables[0].values.map((_, row) => row);
  }

  isScale(variable) {
    return variable.number && variable.distinct.length > this.most.numbers;
  }

  // What may go to the right, up, into colours and into panels.
  choices() {
    const varied = this.variables.filter((each) => this.varied.includes(each.name));
    const figures = this.variables.filter((each) => !each.field);
    const coloured = (each) => each.number || each.distinct.length <= this.most.colors;
    return {
      x: [...varied, ...figures],
      y: figures,
      colour: [...varied, ...figures].filter(coloured),
      facet: varied.filter((each) => each.distinct.length <= this.most.panels),
    };
  }

  figure({ x, y, colour, facet }) {
    const view = { x: this.byName[x], colour: this.byName[colour], facet: this.byName[facet] };
    const panels = [];
    const values = view.facet ? view.facet.groups : [null];
    values.forEach((value, number) => {
      for (const name of y) {
        const up = this.byName[name];
        const rows = this.rows.filter(
          (row) =>
            view.x.values[row] !== null &&
            up.values[row] !== null &&
            (!view.facet || view.facet.values[row] === value)
        );
        const where = view.facet ? `, ${view.facet.heading} = ${view.facet.labels[number]}` : "";
        const traces = this.traces(view, up, rows, panels.length === 0);
        if (traces.length) panels.push({ title: up.heading + where, traces });
      }
    });
    return this.plot(view, panels);
  }

  traces(view, up, rows, first) {
    const places = new Map(view.x.distinct.map((value, place) => [value, place]));
    const place = (row) => places.get(view.x.values[row]);
    const ordered = [...rows].sort((a, b) => place(a) - place(b));
    const scale = view.colour && this.isScale(view.colour);
    const groups = new Map();
    if (!view.colour || scale) groups.set(0, ordered);
    else {
      view.colour.groups.forEach((value, number) => {
        const found = ordered.filter((row) => view.colour.values[row] === value);
        if (found.length) groups.set(number, found);
      });
    }
    const traces = [];
    for (const [number, found] of groups) {
      const trace = {
        name: view.colour && !scale ? view.colour.labels[number] : up.heading,
        legendgroup: String(number),
        type: "scatter",
        x: found.map((row) => view.x.values[row]),
        y: found.map((row) => up.values[row]),
      };
      const look = {
        color: this.colors[number % this.colors.length],
        symbol: this.symbols[Math.floor(number / this.colors.length) % this.symbols.length],
        size: 6,
      };
      const bars = (variable) => ({ ...this.bar, array: found.map((row) => variable.stds[row] ?? 0) });
      if (scale) {
        const { distinct, heading, values } = view.colour;
        const marker = {
          size: 6,
          opacity: 0.85,
          color: found.map((row) => values[row]),
          colorscale: "Viridis",
          cmin: distinct[0],
          cmax: distinct[distinct.length - 1],
          showscale: first,
          colorbar: { title: { text: heading }, thickness: 12 },
        };
        traces.push({ ...trace, mode: "markers", marker });
      } else if (this.isLine(view, found)) {
        const line = { color: look.color, width: 1.6 };
        traces.push({ ...trace, mode: "lines+markers", marker: look, line });
        const spreads = found.map((row) => up.stds[row] ?? 0);
        if (spreads.some((spread) => spread > 0)) {
          const end = { ...trace, mode: "lines", line: { width: 0 }, hoverinfo: "skip" };
          const tint = this.tints[number % this.colors.length];
          const moved = (sign) => trace.y.map((value, at) => value + sign * spreads[at]);
          traces.push({ ...end, y: moved(-1) });
          traces.push({ ...end, y: moved(1), fill: "tonexty", fillcolor: tint });
        }
      } else {
        const marker = { ...look, opacity: 0.8 };
        const few = rows.length <= this.most.bars;
        traces.push({
          ...trace,
          mode: "markers",
          marker,
          ...(few && !up.field && { error_y: bars(up) }),
          ...(few && !view.x.field && { error_x: bars(view.x) }),
        });
      }
    }
    return traces;
  }

  // Whether settings differ in x alone, of what is not shown.
  isLine(view, rows) {
    const shown = Object.values(view).map((each) => each?.name);
    const others = this.varied.filter((name) => !shown.includes(name));
    const same = (name) => new Set(rows.map((row) => this.byName[name].values[row])).size === 1;
    return view.x.field && others.every(same);
  }

  // As Figure.plot of figure.py.
  plot(view, panels) {
    const columns = { 1: 1, 2: 2, 4: 2 }[panels.length] ?? 3;
    const rows = Math.ceil(panels.length / columns);
    const { distinct, heading, number } = view.x;
    const wide = distinct[0] > 0 && 10 * distinct[0] < distinct[distinct.length - 1];
    const axis = {
      title: { text: heading },
      ...(!number ? { type: "category" } : wide ? this.logarithm : {}),
    };
    const layout = { annotations: [], height: rows * 290 };
    const named = new Set();
    const data = [];
    panels.forEach(({ title, traces }, index) => {
      const at = index ? String(index + 1) : "";
      layout[`xaxis${at}`] = { automargin: true, nticks: 6, ...axis };
      layout[`yaxis${at}`] = { automargin: true, nticks: 6, hoverformat: ".4~g" };
      layout.annotations.push({
        text: `<b>${title}</b>`,
        xref: `x${at} domain`,
        yref: `y${at} domain`,
        x: 0,
        y: 1,
        xanchor: "left",
        yanchor: "bottom",
        yshift: 4,
        showarrow: false,
      });
      for (const trace of traces) {
        const showlegend = !named.has(trace.legendgroup);
        named.add(trace.legendgroup);
        data.push({ ...trace, xaxis: `x${at}`, yaxis: `y${at}`, showlegend });
      }
    });
    layout.grid = { pattern: "independent", rows, columns, xgap: 0.16, ygap: 0.36 };
    layout.margin = { t: 24, r: 16, b: 40, l: 48 };
    layout.hovermode = "closest";
    const legend =
      view.colour && !this.isScale(view.colour)
        ? view.colour.texts.map((text, each) => [String(each), text, this.colors[each % this.colors.length]])
        : [];
    return { data, layout, legend: legend.filter(([group]) => named.has(group)) };
  }
}

// Gives a function that shows the sweep of an id, or hides what is of the one before.
async function sweeps(drawFigure) {
  const constants = await unpacked("sweep-constants");
  const known = new Map();
  let shown = null;
  let chosen = null;

  function redraw() {
    const figure = shown.figure(chosen);
    const [legend, plot] = find("sweep").querySelectorAll(".legend, .plot");
    const again = () => drawFigure(plot, figure);
    showLegend(legend, figure, again);
    again();
    drawParallel();
  }

  // A browser without WebGL says so in its place.
  function drawParallel() {
    const plot = find("parallel").querySelector(".plot");
    const { data, layout, rows } = shown.parallel;
    find("parallel").hidden = data.length === 0;
    if (!data.length) return;
    const { heading, values } = shown.byName[chosen.y[0]];
    const line = {
      ...data[0].line,
      color: rows.map((row) => values[row]),
      colorbar: { ...data[0].line.colorbar, title: { text: heading } },
    };
    // Axes beside each other need room: where there is none, the plot is moved under its window.
    const width = NARROW.matches ? 900 : undefined;
    const grid = { rows: 1, columns: 1 };
    const plain = { ...layout, width, grid, annotations: [{ visible: false }] };
    drawFigure(plot, { data: [{ ...data[0], line }], layout: plain })?.catch?.(() => {});
  }

  function showChoices() {
    const { x, y, colour, facet } = shown.choices();
    const list = (title, options, now, take) => {
      const made = choice(title, options.map(([text]) => text), (number) => {
        take(options[number][1]);
        redraw();
      });
      made.querySelector("select").selectedIndex = options.findIndex(
        ([, value]) => JSON.stringify(value) === JSON.stringify(now)
      );
      return made;
    };
    const each = (variables) => variables.map((variable) => [variable.plain, variable.name]);
    const some = (variables) => [["none", null], ...each(variables)];
    const up = [...each(y).map(([text, name]) => [text, [name]])];
    if (shown.tables.length > 1) up.unshift(["the tables' metrics", shown.tables]);
    if (!up.some(([, names]) => String(names) === String(chosen.y))) {
      up.unshift(["as asked for", chosen.y]);
    }
    find("axes").replaceChildren(
      list("x", each(x), chosen.x, (name) => (chosen.x = name)),
      list("y", up, chosen.y, (names) => (chosen.y = names)),
      list("colour", some(colour), chosen.colour, (name) => (chosen.colour = name)),
      list("facet", some(facet), chosen.facet, (name) => (chosen.facet = name))
    );
  }

  function showBest({ search, columns, rows }) {
    find("best").hidden = columns.length === 0;
    find("search").textContent = search;
    find("best").querySelector(".dt-container")?.remove();
    find("best").querySelector("table")?.remove();
    if (!columns.length) return;
    const made = document.createElement("table");
    made.id = "best-table";
    made.setAttribute("aria-labelledby", "best-title");
    find("best").append(made);
    table("best-table", columns, rows, { bottomStart: rows.length > 10 ? "paging" : null }, 10);
  }

  return async function show(id) {
    find("sweeps").hidden = id === undefined;
    if (id === undefined) return;
    if (!known.has(id)) known.set(id, new Sweep(await unpacked(id), constants));
    if (shown !== known.get(id)) {
      shown = known.get(id);
      chosen = { ...shown.chosen };
      showChoices();
      showBest(shown.best);
    }
    redraw();
  };
}
