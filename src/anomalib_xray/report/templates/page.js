// Headings become buttons that sort: numbers from the highest down first, text from A on.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  table.querySelectorAll("thead th").forEach((heading, column) => {
    const button = document.createElement("button");
    button.textContent = heading.textContent;
    button.title = "Sort";
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const rows = [...body.rows];
      const numbers = rows.map((row) => parseFloat(row.cells[column].dataset.order));
      const isNumber = numbers.some((number) => !Number.isNaN(number));
      const sorted = heading.getAttribute("aria-sort");
      const down = sorted ? sorted === "ascending" : isNumber;
      const order = rows.map((row, place) => ({ row, number: numbers[place], text: row.cells[column].textContent }));
      order.sort((first, second) => {
        if (!isNumber) return (down ? -1 : 1) * first.text.localeCompare(second.text);
        const gaps = Number.isNaN(first.number) - Number.isNaN(second.number);
        return gaps || (down ? second.number - first.number : first.number - second.number) || 0;
      });
      for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      body.append(...order.map((entry) => entry.row));
    });
  });
}
// A link to the cases of a model opens them, and a picture is shown larger, and smaller again.
const reveal = (target) => {
  if (target instanceof HTMLDetailsElement) target.open = true;
};
const ofHash = () => document.getElementById(location.hash.slice(1));
for (const link of document.querySelectorAll('a[href^="#cases-"]')) {
  link.addEventListener("click", () => reveal(document.getElementById(link.hash.slice(1))));
}
addEventListener("hashchange", () => reveal(ofHash()));
reveal(ofHash());
for (const button of document.querySelectorAll("button.picture")) {
  button.addEventListener("click", () => {
    const large = button.closest("figure").classList.toggle("large");
    button.setAttribute("aria-pressed", large);
  });
}
