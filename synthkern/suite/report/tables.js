// Tables that are sorted by their headings.

const inOrder = new Intl.Collator("en", { numeric: true }).compare;

// Before and after, with what is missing always last.
function compareBy(value, descending) {
  return (one, other) => {
    const a = value(one);
    const b = value(other);
    if (a === null || a === undefined) return b === null || b === undefined ? 0 : 1;
    if (b === null || b === undefined) return -1;
    const order = typeof a === "string" ? inOrder(a, b) : a - b;
    return descending ? -order : order;
  };
}

// A heading's columns have a text, a value(row) to sort by and whether it is text.
function sortableHead(columns, changed) {
  const row = element("tr");
  columns.forEach((column) => {
    const cell = element("th", { scope: "col", class: column.isText ? "text" : null });
    const button = element("button", { type: "button" }, column.text);
    button.addEventListener("click", () => {
      // Numbers are looked at from the greatest, names from the first.
      const first = column.isText ? "ascending" : "descending";
      const second = column.isText ? "descending" : "ascending";
      const next = cell.getAttribute("aria-sort") === first ? second : first;
      for (const each of row.children) each.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", next);
      changed(compareBy(column.value, next === "descending"));
    });
    cell.append(button);
    row.append(cell);
  });
  return element("thead", {}, row);
}

// A table in a box of its own that scrolls sideways.
function boxed(table, label) {
  return element("div", { class: "box", tabindex: "0", role: "region", "aria-label": label }, table);
}
