// What is shown at first, and what the choices at the top change.

function showFacts(data) {
  const runs = data.runs;
  const states = ["done", "running", "failed", "pending"]
    .map((name) => [name, runs.state.filter((state) => runs.states[state] === name).length])
    .filter(([, count]) => count);
  const fact = (name, ...values) =>
    element("div", {}, element("dt", {}, name), values.map((value) => element("dd", {}, value)));
  const wide = (made) => {
    made.classList.add("wide");
    return made;
  };
  const orNone = (values) => {
    const known = values.filter((value) => value !== null && value !== "");
    return known.length ? known.map(String) : ["\u2013"];
  };
  const shorter = (values, most) =>
    values.length > most
      ? [...values.slice(0, most), `and ${wholeNumber(values.length - most)} more`]
      : values;
  document.title = `${data.directory}: synthkern report`;
  document.getElementById("title").textContent = `Benchmark report: ${data.directory}`;
  document.getElementById("facts").append(
    fact(
      data.suites.length > 1 ? "Suites" : "Suite",
      ...orNone(shorter(data.suites.map((suite) => suite.name), 6))
    ),
    fact("Worlds", ...orNone(shorter(runs.world.values, 6))),
    fact(
      "Runs",
      ...(states.length
        ? states.map(([name, count]) =>
            element("span", {}, `${wholeNumber(count)} `, element("span", { class: `state ${name}` }, name))
          )
        : ["none"])
    ),
    fact("Code version", ...orNone(shorter(runs.code_version.values, 4))),
    fact("Stream version", ...orNone(shorter(runs.stream_version.values, 4))),
    wide(fact("Hardware", ...orNone(shorter(data.names.hardware, 4))))
  );
}

function start() {
  const data = JSON.parse(document.getElementById("data").textContent);
  const [results, runs] = ["results", "runs"].map((id) =>
    document.querySelector(`#${id} .content`)
  );
  const figures = document.getElementById("figures");
  const chosen = { suite: null, world: null, l0: null };

  function show() {
    showResults(data, results, chosen.suite, chosen.world);
    showFigures(data, figures, chosen.suite, chosen.world, chosen.l0);
  }

  // Each choice keeps what is below it where that is still there.
  function choose() {
    const within = (names) =>
      data.groups.filter((group) => names.every((name) => group[name] === chosen[name]));
    const keep = (name, values) => {
      if (!values.includes(chosen[name])) chosen[name] = values.length ? values[0] : null;
      return values;
    };
    const suites = keep("suite", distinct(data.groups.map((group) => group.suite)));
    const worlds = keep("world", distinct(within(["suite"]).map((group) => group.world)));
    const l0s = keep("l0", distinct(within(["suite", "world"]).map((group) => group.l0)));
    const options = (values) => values.map((value, number) => [number, String(value)]);
    const select = (text, name, values, shown) => {
      const made = choice(text, options(shown), (number) => {
        chosen[name] = values[number];
        choose();
      });
      made.querySelector("select").value = values.indexOf(chosen[name]);
      return values.length > 1 ? made : null;
    };
    const made = [
      select("Suite", "suite", suites, suites),
      select("World", "world", worlds, worlds),
      select("L0 of curves and latents", "l0", l0s, l0s.map(l0Text)),
    ].filter(Boolean);
    const bar = document.getElementById("choices");
    bar.hidden = made.length === 0;
    bar.firstElementChild.replaceChildren(...made);
    show();
  }

  showFacts(data);
  showRuns(data, runs);
  choose();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => recolor(figures));
}

start();
