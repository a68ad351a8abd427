// Fills the page again each second, by the rules of templating.py, and draws the graphs. Values are never markup.
"use strict";

const GRAPH_S = 600;
const SVG = "http://www.w3.org/2000/svg";
const link = document.getElementById("link");
const graphs = document.getElementById("graphs");
let history = [];
let source = null;

// ——— the page ———

function say(element, text) {
  if (element.textContent !== text) {
    element.textContent = text; // Set only if it differs, since a screen reader reads each change aloud.
  }
}

function fill(element, values) {
  const { href, class: level, text, rows } = element.dataset;
  if (href) {
    element.setAttribute("href", values[href]);
  }
  if (level) {
    element.className = values[level];
  }
  if (text) {
    say(element, values[text]);
  } else if (rows) {
    repeat(element, values[rows]);
  } else {
    for (const child of element.children) {
      fill(child, values);
    }
  }
}

// A row keeps its element while it is shown, so that it keeps the focus and stays under the pointer.
function repeat(container, rows) {
  const template = container.querySelector("template");
  const there = new Map([...container.children].map((row) => [row.dataset.key, row]));
  let last = template;
  for (const values of rows) {
    const row = there.get(values.key) ?? template.content.firstElementChild.cloneNode(true);
    there.delete(values.key);
    row.dataset.key = values.key;
    if (last.nextElementSibling !== row) {
      last.after(row);
    }
    fill(row, values);
    last = row;
  }
  while (last.nextElementSibling) {
    last.nextElementSibling.remove();
  }
}

// ——— the graphs ———

function shape(name, attributes, text = "") {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    element.setAttribute(key, value);
  }
  element.textContent = text;
  return element;
}

function roundUp(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 1.5, 2, 3, 4, 6, 8, 10].map((step) => step * power).find((step) => step >= most * 0.999);
}

function draw(svg, now) {
  const names = svg.dataset.lines.split(" ");
  const unit = Number(svg.dataset.unit ?? 1);
  const { width, height } = svg.getBoundingClientRect();
  const [left, right, top, bottom] = [40, width - 1, 12, height - 20];
  const most = roundUp(Math.max(1, ...history.flatMap((rates) => names.map((name) => rates[name] / unit))));
  const x = (at) => right - ((now - at) / GRAPH_S) * (right - left);
  const y = (value) => bottom - (value / most) * (bottom - top);
  const shapes = [];
  for (const part of [0, 0.5, 1]) {
    const at = Math.round(y(most * part)) + 0.5;
    shapes.push(shape("line", { class: "grid", x1: left, x2: right, y1: at, y2: at }));
    shapes.push(shape("text", { x: left - 6, y: at + 4, "text-anchor": "end" }, (most * part).toLocaleString("en")));
  }
  for (const minutes of [10, 5, 0]) {
    const anchor = { 10: "start", 5: "middle", 0: "end" }[minutes];
    const label = minutes ? `−${minutes} min` : "now";
    shapes.push(shape("text", { x: x(now - minutes * 60), y: height - 4, "text-anchor": anchor }, label));
  }
  for (const name of names) {
    const points = history.map((rates) => `${x(rates.at).toFixed(1)},${y(rates[name] / unit).toFixed(1)}`);
    shapes.push(shape("polyline", { class: name, points: points.join(" ") }));
  }
  svg.replaceChildren(...shapes);
}

function drawAll() {
  const now = history.length ? history[history.length - 1].at : 0;
  history = history.filter((rates) => rates.at >= now - GRAPH_S);
  graphs.hidden = false;
  for (const svg of graphs.querySelectorAll("svg")) {
    draw(svg, now);
  }
}

// ——— the news ———

function listen() {
  source = new EventSource("events");
  source.addEventListener("overview", (event) => {
    const news = JSON.parse(event.data).history;
    if (news.length > 1) {
      history = news;
    } else if (news.length && news[0].at > (history.at(-1)?.at ?? -Infinity)) {
      history.push(news[0]);
    }
    drawAll();
  });
  source.addEventListener("page", (event) => {
    fill(document.documentElement, JSON.parse(event.data));
    link.className = "link";
    say(link, ", live");
  });
  source.addEventListener("error", () => {
    link.className = "link lost";
    say(link, ", not connected");
    if (source.readyState === EventSource.CLOSED) {
      setTimeout(listen, 5000);
    }
  });
}

// A browser opens at most six connections to a site for all of its tabs together, so a hidden tab keeps none.
function listenWhileVisible() {
  source?.close();
  if (!document.hidden) {
    listen();
  }
}

document.addEventListener("visibilitychange", listenWhileVisible);
addEventListener("resize", drawAll);
listenWhileVisible();
