// What is shown at first, and what the choices at the top change.

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

  showRuns(data, runs);
  choose();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => recolor(figures));
}

start();
