// Tables: a click on a head sorts, a second one turns the order round; rows without a number stay at the end.
function sortBy(head) {
  const table = head.closest("table"), body = table.tBodies[0], column = head.cellIndex;
  const falling = head.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const key = row => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };
  const rows = Array.from(body.rows, row => [key(row), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    const order = typeof a === "number" ? a - b : a.localeCompare(b, undefined, {numeric: true});
    return falling ? -order : order;
  });
  body.append(...rows.map(([, row]) => row));
}
for (const head of document.querySelectorAll("table.sortable th:not([data-fixed])")) {
  head.addEventListener("click", () => sortBy(head));
  head.addEventListener("keydown", event => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sortBy(head); } });
}
