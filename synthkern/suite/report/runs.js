// The table of all runs.

const PAGE_ROWS = 50;

function showRuns(data, place) {
  const runs = data.runs;
  if (!runs.count) {
    place.append(element("p", { class: "notice" }, "There are no runs."));
    return;
  }
  const at = (column) => (run) => column.values[column.at[run]];
  const [suite, world, sae] = [at(runs.suite), at(runs.world), at(runs.sae)];
  const state = (run) => runs.states[runs.state[run]];
  const texts = Array.from({ length: runs.count }, (_, run) =>
    [state(run), suite(run), world(run), sae(run), `l0=${l0Text(runs.l0[run])}`, `seed=${runs.seed[run]}`, runs.key[run]]
      .join(" ")
      .toLowerCase()
  );
  const columns = runColumns(data, { suite, world, sae, state });
  const all = Array.from({ length: runs.count }, (_, run) => run);
  let sorted = all;
  let shown = all;
  let page = 0;
  const wanted = { text: [], state: "", world: "", sae: "", suite: "" };

  const count = element("span", { class: "shown", role: "status" });
  const body = element("tbody");
  const [first, previous, next, last] = [
    ["First", () => 0],
    ["Previous", () => page - 1],
    ["Next", () => page + 1],
    ["Last", () => pageCount() - 1],
  ].map(([text, target]) =>
    element("button", { type: "button", onclick: () => show(target()) }, text)
  );
  const where = element("span", { class: "where" });
  const pageCount = () => Math.max(1, Math.ceil(shown.length / PAGE_ROWS));

  function show(number) {
    page = number;
    const from = page * PAGE_ROWS;
    body.replaceChildren(
      ...shown.slice(from, from + PAGE_ROWS).map((run) => runRow(data, columns, run))
    );
    count.textContent = `${wholeNumber(shown.length)} of ${wholeNumber(runs.count)} runs`;
    where.textContent = `Page ${wholeNumber(page + 1)} of ${wholeNumber(pageCount())}`;
    first.disabled = previous.disabled = page === 0;
    next.disabled = last.disabled = page >= pageCount() - 1;
  }

  function filter() {
    shown = sorted.filter(
      (run) =>
        (!wanted.state || state(run) === wanted.state) &&
        (!wanted.suite || suite(run) === wanted.suite) &&
        (!wanted.world || world(run) === wanted.world) &&
        (!wanted.sae || sae(run) === wanted.sae) &&
        wanted.text.every((word) => texts[run].includes(word))
    );
    show(0);
  }

  const search = element("input", {
    type: "search",
    oninput: () => {
      wanted.text = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      filter();
    },
  });
  const choiceOf = (text, name, values) =>
    choice(text, [["", "all"], ...values.map((value) => [value, value])], (value) => {
      wanted[name] = value;
      filter();
    });
  const used = distinct(runs.state).map((number) => runs.states[number]);
  place.append(
    element(
      "div",
      { class: "filters" },
      element("label", {}, "Search", search),
      choiceOf("State", "state", used),
      runs.suite.values.length > 1 ? choiceOf("Suite", "suite", runs.suite.values) : null,
      choiceOf("World", "world", runs.world.values),
      choiceOf("SAE", "sae", runs.sae.values),
      count
    )
  );
  const head = sortableHead(columns, (compare) => {
    sorted = [...all].sort(compare);
    filter();
  });
  place.append(
    boxed(element("table", {}, head, body), "All runs"),
    element("div", { class: "pages" }, first, previous, where, next, last)
  );
  show(0);
}

function runColumns(data, { suite, world, sae, state }) {
  const runs = data.runs;
  const text = (heading, value) => ({
    text: heading,
    value,
    isText: true,
    cell: (run) => element("td", { class: "text name", title: value(run) }, value(run)),
  });
  const number = (heading, values, decimals) => ({
    text: heading,
    isFigure: true,
    value: (run) => values[run],
    cell: (run) =>
      element("td", {}, values[run] === null ? "\u2013" : fixed(values[run], decimals)),
  });
  const stateColumn = {
    text: "state",
    value: state,
    isText: true,
    cell: (run) =>
      element(
        "td",
        { class: "text" },
        element("button", { type: "button", class: `state ${state(run)}` }, state(run))
      ),
  };
  return [
    stateColumn,
    ...(runs.suite.values.length > 1 ? [text("suite", suite)] : []),
    text("world", world),
    text("SAE", sae),
    {
      text: "L0 asked for",
      value: (run) => runs.l0[run],
      cell: (run) => element("td", {}, runs.l0[run] === null ? "\u2013" : l0Text(runs.l0[run])),
    },
    {
      text: "seed",
      value: (run) => runs.seed[run],
      cell: (run) => element("td", {}, String(runs.seed[run])),
    },
    ...runs.metrics.map(metricColumn),
    number("seconds", runs.seconds, 1),
    number("samples/s", runs.samples_per_second, 0),
  ];
}

function metricColumn(metric) {
  const decimals = decimalsOf(metric.name);
  return {
    text: metric.heading,
    isFigure: true,
    value: (run) => metric.values[run],
    cell: (run) => {
      const value = metric.values[run];
      if (value === null) return element("td", {}, "\u2013");
      const error = metric.errors[run];
      const spread =
        error === null
          ? null
          : element("span", { class: "spread" }, ` \u00b1 ${errorText(error, decimals)}`);
      return element("td", {}, fixed(value, decimals), spread);
    },
  };
}

// A run that failed says why where others have figures.
function runRow(data, columns, run) {
  const { at, values } = data.runs.error;
  const error = values[at[run]];
  const cells = columns.filter((column) => !error || !column.isFigure);
  const reason = error ? error.trimEnd().split("\n").pop() : null;
  return element(
    "tr",
    { onclick: () => showDetails(data, run) },
    cells.map((column) => column.cell(run)),
    error
      ? element(
          "td",
          { class: "text reason", colspan: columns.length - cells.length, title: reason },
          reason
        )
      : null
  );
}

// The config of a run, put together from what is common and what is not.
function configOf(data, run) {
  const { common, columns } = data.runs.config;
  const own = columns
    .filter((column) => column.at[run] >= 0)
    .map((column) => [column.path, column.values[column.at[run]]]);
  const config = Object.create(null);
  for (const [path, value] of [...common, ...own]) {
    const last = path[path.length - 1];
    const within = path
      .slice(0, -1)
      .reduce((part, name) => (part[name] = part[name] || Object.create(null)), config);
    within[last] = value;
  }
  return config;
}

function showDetails(data, run) {
  const runs = data.runs;
  const at = (column) => column.values[column.at[run]];
  const state = runs.states[runs.state[run]];
  const l0 = runs.l0[run] === null ? "" : `, L0 = ${l0Text(runs.l0[run])}`;
  const fact = (name, text) => [element("dt", {}, name), element("dd", {}, text)];
  const pair = (name, text) => element("div", {}, fact(name, text));
  const error = at(runs.error);
  const dialog = document.getElementById("details");
  const close = element("button", { type: "button", onclick: () => dialog.close() }, "Close");
  dialog.replaceChildren(
    element(
      "div",
      { class: "head" },
      element("h2", { id: "details-title" }, `${at(runs.sae)}${l0}, seed ${runs.seed[run]}`),
      close
    ),
    element(
      "div",
      { class: "body" },
      element(
        "dl",
        { class: "facts" },
        pair("State", element("span", { class: `state ${state}` }, state)),
        pair("Suite", at(runs.suite)),
        pair("World", at(runs.world)),
        pair("Key", runs.key[run]),
        pair("Code version", at(runs.code_version) ?? "\u2013"),
        pair("Stream version", String(at(runs.stream_version) ?? "\u2013"))
      ),
      error ? [element("h3", {}, "Error"), element("pre", { class: "error" }, error)] : [],
      element("h3", {}, "Configuration"),
      element("pre", { class: "config" }, JSON.stringify(configOf(data, run), null, 2)),
      element("h3", {}, "Hardware"),
      element("pre", { class: "hardware" }, JSON.stringify(at(runs.hardware), null, 2))
    )
  );
  dialog.showModal();
  dialog.scrollTop = 0;
}
