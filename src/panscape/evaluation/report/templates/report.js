"use strict";

// Buttons in the heads sort tables; a cell may have its sort key in data-v.
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const isText = head.classList.contains("text");
      const first = isText ? "ascending" : "descending";
      const other = isText ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const body = table.tBodies[0];
      const rows = [...body.rows].map((row) => [row.cells[column].dataset.v ?? row.cells[column].textContent, row]);
      rows.sort(([a], [b]) => {
        if (isText) return sign * a.localeCompare(b, undefined, { numeric: true });
        if (a === "" || b === "") return (a === "") - (b === ""); // cells without a value come last
        return sign * (a - b);
      });
      body.append(...rows.map(([, row]) => row));
    });
  });
}

// Hide rows whose first cell does not contain the typed text.
for (const input of document.querySelectorAll("input[data-filters]")) {
  const body = document.getElementById(input.dataset.filters).tBodies[0];
  input.closest(".controls").hidden = false;
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    for (const row of body.rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
  });
}

// Escape closes enlarged images.
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && document.activeElement.matches("figure")) document.activeElement.blur();
});
document.addEventListener("mousedown", (event) => {
  const figure = event.target.closest("figure");
  if (figure && figure === document.activeElement) {
    event.preventDefault();
    figure.blur();
  }
});

// The confusion matrix is drawn on a canvas, as a table of 133 x 134 cells would be slow and unreadable.
const data = document.getElementById("confusion-data");
if (data) drawMatrix(JSON.parse(data.textContent));

function drawMatrix({ names, cells, order }) {
  const canvas = document.getElementById("confusion-canvas");
  const choice = document.getElementById("confusion-choice");
  const says = document.getElementById("confusion-says");
  const pen = canvas.getContext("2d");
  const sums = names.map(() => 0);
  const pixels = new Map();
  for (const [row, column, number] of cells) {
    sums[row] += number;
    pixels.set(row * names.length + column, number);
  }
  let rows, columns, side, left, top;
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const share = (row, column) => (pixels.get(row * names.length + column) ?? 0) / Math.max(sums[row], 1);

  function draw() {
    const most = choice.value === "all" ? order.length : Number(choice.value);
    const chosen = new Set(order.slice(0, most));
    rows = names.map((_, i) => i).filter((i) => chosen.has(i));
    columns = [...rows, names.length - 1]; // void is the last column
    side = rows.length <= 20 ? 28 : rows.length <= 30 ? 22 : rows.length <= 60 ? 15 : 11;
    const font = Math.min(12, side - 1) + "px system-ui, sans-serif";
    pen.font = font;
    const longest = Math.min(180, Math.max(...columns.map((i) => pen.measureText(names[i]).width)));
    left = Math.ceil(longest) + 26;
    top = Math.ceil(longest) + 26;
    const width = left + columns.length * side + 2, height = top + rows.length * side + 2;
    const scale = window.devicePixelRatio || 1;
    canvas.width = width * scale;
    canvas.height = height * scale;
    canvas.style.width = width + "px";
    canvas.style.height = height + "px";
    pen.scale(scale, scale);
    pen.font = font;
    const ink = css("--ink"), soft = css("--soft"), heat = css("--heat").split(" ").join(","), line = css("--line");
    rows.forEach((row, y) => {
      columns.forEach((column, x) => {
        const value = share(row, column);
        const color = row === column ? "128,132,140" : heat;
        pen.fillStyle = value ? `rgba(${color},${row === column ? 0.12 + 0.38 * value : Math.sqrt(value)})` : line;
        pen.globalAlpha = value ? 1 : 0.25;
        pen.fillRect(left + x * side, top + y * side, side - 1, side - 1);
        pen.globalAlpha = 1;
      });
    });
    pen.fillStyle = ink;
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    rows.forEach((row, y) => pen.fillText(names[row], left - 6, top + (y + 0.5) * side, longest));
    pen.textAlign = "left";
    columns.forEach((column, x) => {
      pen.save();
      pen.translate(left + (x + 0.5) * side, top - 6);
      pen.rotate(-Math.PI / 2);
      pen.fillText(names[column], 0, 0, longest);
      pen.restore();
    });
    pen.fillStyle = soft;
    pen.font = "12px system-ui, sans-serif";
    pen.fillText("predicted as \u2192", left, 8);
    pen.save();
    pen.translate(8, top);
    pen.rotate(-Math.PI / 2);
    pen.textAlign = "right";
    pen.fillText("\u2190 ground truth", 0, 0);
    pen.restore();
  }

  function say(x, y) {
    if (x < 0 || y < 0 || x >= columns.length || y >= rows.length) return;
    const row = rows[y], column = columns[x];
    const number = pixels.get(row * names.length + column) ?? 0;
    const percent = (100 * share(row, column)).toFixed(2);
    says.textContent = row === column
      ? `${names[row]}: ${percent} % of its pixels are correct (${number.toLocaleString("en")})`
      : `${names[row]} predicted as ${names[column]}: ${percent} % of its pixels (${number.toLocaleString("en")})`;
  }

  let place = [0, 0];
  canvas.addEventListener("mousemove", (event) => {
    const box = canvas.getBoundingClientRect();
    place = [Math.floor((event.clientX - box.left - left) / side), Math.floor((event.clientY - box.top - top) / side)];
    say(...place);
  });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    place = [
      Math.min(Math.max(place[0] + step[0], 0), columns.length - 1),
      Math.min(Math.max(place[1] + step[1], 0), rows.length - 1),
    ];
    say(...place);
  });
  choice.addEventListener("change", draw);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
  document.getElementById("confusion-matrix").hidden = false;
}
