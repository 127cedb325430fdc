"use strict";
// Draws the page from the data in it. Trials are rows: number, state, values, codes of labels.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { columns, labels, trials } = data;
  const byNumber = new Map(trials.map((t) => [t.number, t]));
  const colours = ["#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#F0E442",
    "#999933", "#332288", "#88CCEE", "#44AA99", "#AA4499"];
  const $ = (id) => document.getElementById(id);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "text") element.textContent = value;
      else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else element.setAttribute(key, value);
    }
    element.append(...children);
    return element;
  }

  // As readable() in numbers.py.
  function readable(x) {
    if (x === null || x === undefined) return "";
    if (!Number.isFinite(x)) return String(x);
    const size = Math.abs(x);
    for (const [unit, name] of [[1e9, " G"], [1e6, " M"], [1e3, " k"]])
      if (size >= unit * 0.9995) return Number((x / unit).toPrecision(3)) + name;
    return String(Number(x.toPrecision(4)));
  }
  const percent = (x) => (x > 0 && x < 0.001 ? "<0.1%"
    : (100 * x).toFixed(x > 0 && x < 0.0995 ? 1 : 0) + "%");
  const valueOf = (trial, column) => trial.values[column];
  const words = (trial) => labels.map((label, i) => chosen(trial, i) &&
    `${label.name}=${chosen(trial, i)}`).filter(Boolean).join(" ");
  function chosen(trial, i) {
    const code = trial.codes[i];
    return code === null ? "" : labels[i].values[code];
  }

  // -- one trial ---------------------------------------------------------------------------------

  let shown = null;
  function show(trial, scroll) {
    shown = trial;
    const best = trial.number === data.winner;
    const facts = [["state", trial.state], ...columns.map((c, i) => [c.name, valueOf(trial, i)])
      .filter(([n, v]) => n !== "trial" && v !== null).map(([n, v]) => [n, readable(v)])];
    const detail = $("detail");
    detail.replaceChildren(
      make("h2", { style: "margin:0", text: $("front")
        ? `Trial ${trial.number}${best ? ", the winner" : ""}` : "What it is" }),
      make("dl", { class: "facts" }, ...facts.flatMap(([n, v]) =>
        [make("dt", { text: n }), make("dd", { text: v })])));
    if (trial.failure) detail.append(make("pre", { text: trial.failure }));
    detail.append(network(trial, best));
    document.querySelectorAll("tbody tr.chosen").forEach((r) => r.classList.remove("chosen"));
    document.querySelector(`tr[data-trial="${trial.number}"]`)?.classList.add("chosen");
    charts.forEach((chart) => chart.draw());
    if (scroll && innerWidth <= 760) detail.scrollIntoView({ behavior: "smooth" });
  }

  function network(trial, best) {
    const box = make("div", { class: "network" });
    const most = Math.max(...labels.map((l) => l.share || 0), data.rest || 0) || 1;
    let group = "";
    labels.forEach((label, i) => {
      if (label.group && label.group !== group)
        box.append(make("div", { class: "group", text: `repeat ${label.group}` }));
      group = label.group;
      const mine = chosen(trial, i);
      const several = label.several && mine ? JSON.parse(mine) : null;
      const line = make("div", { class: mine ? "row" : "row unused" });
      const chips = make("span");
      if (label.values.length > 40 && mine) chips.append(make("span", { class: "chip on",
        text: mine }), make("span", { class: "note", text: ` of ${label.values.length} tried` }));
      else label.values.forEach((value) => chips.append(make("span", {
        class: (several ? several.map(String).includes(value) : value === mine)
          ? "chip on" : "chip", text: value })));
      const end = make("span", { class: "shape" });
      if (!mine) end.textContent = "not used";
      else if (best && label.share !== undefined) {
        end.append(make("i", { class: "bar", style: `width:${40 * label.share / most}%` }),
          label.share ? percent(label.share) : "");
        if (label.shape) end.append(make("div", { text: label.shape }));
      }
      line.append(make("span", { class: "name", text: label.name }), chips, end);
      box.append(line);
    });
    if (best && data.rest !== null) box.append(make("div", { class: "note",
      text: `Bars are shares of the multiply-adds; ${percent(data.rest)} are of what is fixed.` }));
    return box;
  }

  // -- hovering ----------------------------------------------------------------------------------

  function tip(trial, x, y) {
    const box = $("tip");
    box.hidden = !trial;
    if (!trial) return;
    box.replaceChildren(make("b", { text: `Trial ${trial.number}` }),
      make("div", { text: columns.map((c, i) => [c.name, valueOf(trial, i)])
        .filter(([, v]) => v !== null).map(([n, v]) => `${n} ${readable(v)}`).join(", ") }),
      make("div", { class: "note", text: words(trial) }));
    box.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.offsetWidth - 6))}px`;
    box.style.top = `${Math.max(4, Math.min(y + 14, innerHeight - box.offsetHeight - 6))}px`;
  }

  // -- charts ------------------------------------------------------------------------------------

  const charts = [];
  function ticks(low, high, room) {
    const rough = (high - low || 1) / Math.max(2, room);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((m) => m * power >= rough);
    const found = [];
    for (let x = Math.ceil(low / step) * step; x <= high + step * 1e-9; x += step)
      found.push(Number(x.toPrecision(12)));
    return found;
  }

  function scatter(canvas, x, y, line) {
    const chart = { x, y };
    let places = [];
    chart.draw = () => {
      const ratio = devicePixelRatio || 1, w = canvas.clientWidth, h = canvas.clientHeight;
      canvas.width = w * ratio; canvas.height = h * ratio;
      const pen = canvas.getContext("2d");
      pen.scale(ratio, ratio);
      const points = trials.filter((t) => Number.isFinite(valueOf(t, chart.x)) &&
        Number.isFinite(valueOf(t, chart.y)));
      const range = (column) => {
        let low = Infinity, high = -Infinity;
        for (const t of points) {
          low = Math.min(low, valueOf(t, column)); high = Math.max(high, valueOf(t, column));
        }
        const pad = (high - low) * 0.05 || Math.abs(high) * 0.05 || 1;
        return [low - pad, high + pad];
      };
      if (!points.length) return;
      const [x0, x1] = range(chart.x), [y0, y1] = range(chart.y);
      const left = 54, right = w - 10, top = 12, bottom = h - 38;
      const px = (v) => left + (right - left) * (v - x0) / (x1 - x0);
      const py = (v) => bottom - (bottom - top) * (v - y0) / (y1 - y0);
      pen.font = "11px system-ui, sans-serif"; pen.fillStyle = css("--muted");
      pen.strokeStyle = css("--faint"); pen.lineWidth = 0.5; pen.textAlign = "center";
      for (const v of ticks(x0, x1, w / 90)) {
        pen.beginPath(); pen.moveTo(px(v), top); pen.lineTo(px(v), bottom); pen.stroke();
        pen.fillText(readable(v), px(v), bottom + 14);
      }
      pen.textAlign = "right";
      for (const v of ticks(y0, y1, h / 50)) {
        pen.beginPath(); pen.moveTo(left, py(v)); pen.lineTo(right, py(v)); pen.stroke();
        pen.fillText(readable(v), left - 5, py(v) + 4);
      }
      pen.textAlign = "center"; pen.fillStyle = css("--ink");
      pen.fillText(columns[chart.x].title, (left + right) / 2, h - 6);
      pen.save(); pen.translate(11, (top + bottom) / 2); pen.rotate(-Math.PI / 2);
      pen.fillText(columns[chart.y].title, 0, 0); pen.restore();
      places = points.map((t) => [px(valueOf(t, chart.x)), py(valueOf(t, chart.y)), t]);
      const joined = line(chart, points);
      pen.strokeStyle = css("--chosen"); pen.lineWidth = 1.6; pen.beginPath();
      joined.forEach(([a, b], i) => (i ? pen.lineTo(px(a), py(b)) : pen.moveTo(px(a), py(b))));
      pen.stroke();
      pen.globalAlpha = points.length > 800 ? 0.45 : 0.85; pen.fillStyle = css("--tried");
      for (const [a, b] of places) { pen.beginPath(); pen.arc(a, b, 3, 0, 7); pen.fill(); }
      pen.globalAlpha = 1;
      for (const [a, b, t] of places) {
        if (t.number !== data.winner && t !== shown) continue;
        pen.fillStyle = t.number === data.winner ? css("--found") : css("--chosen");
        pen.beginPath(); pen.arc(a, b, 6.5, 0, 7); pen.fill();
        pen.strokeStyle = css("--back"); pen.lineWidth = 1.5; pen.stroke();
      }
    };
    const near = (event) => {
      const box = canvas.getBoundingClientRect();
      let best = null, least = 196;
      for (const [a, b, t] of places) {
        const d = (a - event.clientX + box.left) ** 2 + (b - event.clientY + box.top) ** 2;
        if (d < least) [least, best] = [d, t];
      }
      return best;
    };
    canvas.addEventListener("mousemove", (e) => tip(near(e), e.clientX, e.clientY));
    canvas.addEventListener("mouseleave", () => tip(null));
    canvas.addEventListener("click", (e) => { const t = near(e); if (t) show(t, true); });
    chart.places = () => places.map(([a, b, t]) => [a, b, t.number]);
    charts.push(chart);
    return chart;
  }

  // Those that nothing else is better than in both axes.
  function front(chart, points) {
    const sx = columns[chart.x].sign, sy = columns[chart.y].sign;
    if (!sx || !sy) return [];
    const sorted = points.filter((t) => t.state === "complete")
      .map((t) => [valueOf(t, chart.x), valueOf(t, chart.y)])
      .sort((a, b) => sx * (b[0] - a[0]) || sy * (b[1] - a[1]));
    const found = [];
    let best = -Infinity;
    for (const [a, b] of sorted) if (sy * b > best) { best = sy * b; found.push([a, b]); }
    return found;
  }

  function soFar(chart, points) {
    const sign = columns[chart.y].sign || 1, found = [];
    let best = -Infinity;
    for (const t of points) {
      const v = sign * valueOf(t, chart.y);
      if (found.length) found.push([valueOf(t, chart.x), sign * best]);
      if (v > best) { best = v; found.push([valueOf(t, chart.x), sign * best]); }
    }
    return found;
  }

  function axis(text, chart, which) {
    const select = make("select", { onchange: () => { chart[which] = +select.value; chart.draw(); } });
    columns.forEach((c, i) => select.append(make("option", { value: i, text: c.title })));
    select.value = chart[which];
    return make("label", {}, text, " ", select);
  }

  // -- labels over time --------------------------------------------------------------------------

  function areas(name, values, series) {
    const first = series[0][0], span = series[series.length - 1][0] - first || 1;
    const holder = make("div");
    holder.innerHTML = '<svg viewBox="0 0 100 50" preserveAspectRatio="none" role="img"></svg>';
    const svg = holder.firstChild;
    let below = series.map(() => 0);
    values.forEach((value, code) => {
      const above = below.map((b, i) => b + (series[i][1][code] || 0));
      const at = (list) => list.map((v, i) => `${100 * (series[i][0] - first) / span},${50 - 50 * v}`);
      const area = document.createElementNS(svg.namespaceURI, "polygon");
      area.setAttribute("points", [...at(above), ...at(below).reverse()].join(" "));
      area.setAttribute("fill", colours[code % colours.length]);
      if (code >= colours.length) area.setAttribute("fill-opacity", 0.55);
      const title = document.createElementNS(svg.namespaceURI, "title");
      title.textContent = `${value}: ${percent(series[series.length - 1][1][code] || 0)} at the end`;
      area.append(title); svg.append(area); below = above;
    });
    const key = make("div", { class: "key" });
    values.forEach((value, code) => key.append(make("span", {}, make("i",
      { style: `background:${colours[code % colours.length]}` }), value), " "));
    return make("div", {}, make("b", { text: name }), holder, key);
  }

  // -- the table ---------------------------------------------------------------------------------

  let order = { column: -1, down: false }, room = 100;
  function table() {
    const wanted = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const text = (t) => (t.text ??= `#${t.number} ${t.state} ${words(t)}`.toLowerCase());
    const rows = trials.filter((t) => wanted.every((w) => {
      const bound = w.match(/^(.+?)(<=|>=|<|>)(-?[\d.e+-]+)$/);
      const column = bound ? columns.findIndex((c) => c.name.toLowerCase() === bound[1]) : -1;
      if (column < 0) return text(t).split(" ").some((part) =>
        w.includes("=") ? part === w : part.includes(w));
      const v = valueOf(t, column), limit = +bound[3];
      return v !== null && (bound[2] === "<" ? v < limit : bound[2] === ">" ? v > limit
        : bound[2] === "<=" ? v <= limit : v >= limit);
    }));
    const key = (t) => (order.column < 0 ? t.number : valueOf(t, order.column));
    rows.sort((a, b) => {
      const [u, v] = [key(a), key(b)];
      if (u === null || v === null) return (u === null) - (v === null) || a.number - b.number;
      return (order.down ? v - u : u - v) || a.number - b.number;
    });
    const head = (name, column) => make("th", { class: "n", "aria-sort": order.column !== column
      ? "none" : order.down ? "descending" : "ascending" }, make("button", {
      text: name + (order.column !== column ? "" : order.down ? " ▾" : " ▴"),
      onclick: () => { order = { column, down: order.column === column && !order.down };
        table(); } }));
    $("trials").replaceChildren(
      make("thead", {}, make("tr", {}, head("trial", -1), make("th", { text: "state" }),
        ...columns.map((c, i) => [c, i]).filter(([c]) => c.name !== "trial")
          .map(([c, i]) => head(c.title, i)), make("th", { text: "architecture" }))),
      make("tbody", {}, ...rows.slice(0, room).map((t) => make("tr", {
        class: `${t.state}${t === shown ? " chosen" : ""}`, "data-trial": t.number, tabindex: 0,
        onclick: () => show(t, true), onkeydown: (e) => e.key === "Enter" && show(t, true) },
        make("td", { class: "n", text: t.number }), make("td", { text: t.state }),
        ...columns.map((c, i) => [c, i]).filter(([c]) => c.name !== "trial")
          .map(([, i]) => make("td", { class: "n", text: readable(valueOf(t, i)) })),
        make("td", { class: "arch", text: words(t) })))));
    $("count").textContent = `${rows.length} of ${trials.length} trials` +
      (rows.length > room ? `, the first ${room} shown` : "");
    $("more").hidden = rows.length <= room;
  }

  // -- the page ----------------------------------------------------------------------------------

  if (trials.length && !$("front")) show(trials[0]);  // of shared weights: no trials, a winner
  else if (trials.length) {
    const main = columns.findIndex((c) => c.main);
    const cost = columns.findIndex((c) => c.cost);
    const number = columns.findIndex((c) => c.name === "trial");
    const first = scatter($("front"), cost < 0 ? number : cost, main, front);
    const second = scatter($("history"), number, main, soFar);
    $("axes").append(axis("across", first, "x"), " ", axis("up", first, "y"));
    show(byNumber.get(data.winner) || trials[0]);
    table();
    $("filter").addEventListener("input", () => { room = 100; table(); });
    $("more").addEventListener("click", () => { room += 400; table(); });
    const redraw = () => charts.forEach((chart) => chart.draw());
    addEventListener("resize", redraw);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    window.report = { first, second };  // for tests of the page
  }
  for (const [place, series] of [["policy", data.policy], ["drift", data.drift]])
    if ($(place)) for (const [name, values, over] of series)
      if (over.length > 1) $(place).append(areas(name, values, over));
})();
