// The tables of means over seeds beside published values.

const FAR = 3;
const OPEN_GROUPS = 6;

function showResults(data, place, suite, world) {
  const groups = data.groups.filter((group) => group.suite === suite && group.world === world);
  place.replaceChildren();
  if (!groups.some((group) => group.rows.some((row) => row.states.done > 0))) {
    place.append(element("p", { class: "notice" }, "No run has finished here yet."));
  } else {
    place.append(element("p", { class: "caption" }, captionOf(groups)));
  }
  groups.forEach((group, number) => place.append(groupTable(data, group, number < OPEN_GROUPS)));
}

function captionOf(groups) {
  const published = groups.some((group) => group.sources.length);
  return (
    "Mean \u00b1 standard deviation over seeds." +
    (published
      ? " Below: the published value, and how far the mean is from it in published standard " +
        `deviations (\u03c3); marked where that is more than ${FAR}.`
      : "")
  );
}

function groupTable(data, group, open) {
  const name = group.l0 === null ? group.world : `${group.world}, L0 = ${l0Text(group.l0)}`;
  const columns = [{ text: "SAE", value: (row) => row.sae, isText: true }];
  data.metrics.forEach((metric, index) =>
    columns.push({
      text: metric.heading,
      value: (row) => (row.figures[index] ? row.figures[index].mean : null),
    })
  );
  columns.push({ text: "seeds", value: (row) => row.states.done });
  const body = element("tbody");
  const rows = group.rows.map((row) => ({ row, shown: resultRow(data, row) }));
  const put = () => body.replaceChildren(...rows.map((each) => each.shown));
  const head = sortableHead(columns, (compare) => {
    rows.sort((one, other) => compare(one.row, other.row));
    put();
  });
  put();
  const sources = group.sources.length ? `published: ${group.sources.join("; ")}` : "";
  return element(
    "details",
    { class: "group", open },
    element("summary", {}, name, element("small", {}, sources)),
    boxed(element("table", {}, head, body), name)
  );
}

function resultRow(data, row) {
  const color = data.saes[data.names.saes.indexOf(row.sae)].color;
  const name = element("td", { class: "text name", title: row.sae }, swatch(color), row.sae);
  const cells = row.figures.map((figure, index) =>
    resultCell(figure, data.metrics[index].name, row.states.done)
  );
  const total = Object.values(row.states).reduce((sum, count) => sum + count, 0);
  const seeds = element("td", {}, wholeNumber(row.states.done));
  if (row.states.done < total) {
    const others = Object.entries(row.states).filter(([state, n]) => n && state !== "done");
    seeds.append(element("small", {}, others.map(([state, n]) => `${n} ${state}`).join(", ")));
  }
  return element("tr", {}, name, cells, seeds);
}

function resultCell(figure, metric, done) {
  if (!figure) return element("td", {}, element("span", { class: "spread" }, "\u2013"));
  const decimals = decimalsOf(metric);
  const spread = (value) =>
    value === null ? null : element("span", { class: "spread" }, ` \u00b1 ${fixed(value, decimals)}`);
  const cell = element("td", {}, fixed(figure.mean, decimals), spread(figure.std));
  if (figure.published) {
    const [mean, std] = figure.published;
    cell.append(element("small", {}, differenceOf(figure), fixed(mean, decimals), spread(std)));
  }
  if (figure.count < done) {
    cell.append(element("small", {}, `finite in ${figure.count} of ${done} runs`));
  }
  return cell;
}

function differenceOf({ difference }) {
  if (difference === null) return null;
  const far = Math.abs(difference) > FAR;
  const text = `${difference > 0 ? "+" : ""}${fixed(difference, 1)}\u03c3`;
  return element("span", { class: far ? "difference far" : "difference" }, text);
}
