"use strict";
// Shows what the server of argus_ros/ros/watch.py sends over its WebSocket; loads nothing else.

const SECONDS = 30; // that curves and timeline reach back
// Names and colours of what becomes of a frame.
const OUTCOMES = {
  published: "#2a9d4a", superseded: "#8a9099", stale: "#d97a00", rate_limited: "#b59cd9", undecodable: "#b3261e",
  withheld: "#c24d8f", engine_down: "#5b1a16", disabled: "#3b6fb5",
};
const byId = (id) => document.getElementById(id);
const cameras = new Map();
let socket = null;
let waiting = 500; // milliseconds to the next try to connect
let edited = false; // the form holds what has not been applied yet

for (const [name, colour] of Object.entries(OUTCOMES)) {
  const entry = byId("legend").appendChild(document.createElement("li"));
  entry.appendChild(document.createElement("span")).style.background = colour;
  entry.append(name.replace("_", " "));
}

function camera(name) {
  if (cameras.has(name)) return cameras.get(name);
  byId("waiting")?.remove();
  const figure = byId("camera").content.cloneNode(true).firstElementChild;
  figure.querySelector("figcaption").textContent = name;
  byId("cameras").append(figure);
  const option = byId("ask").elements.camera.appendChild(document.createElement("option"));
  option.textContent = name;
  const made = { figure, frames: [], counts: {}, url: "" };
  cameras.set(name, made);
  return made;
}

function picture(data) {
  // One byte says how long the camera's name is; behind the name stands the JPEG.
  const bytes = new Uint8Array(data);
  const name = new TextDecoder().decode(bytes.subarray(1, 1 + bytes[0]));
  const shown = camera(name);
  const url = URL.createObjectURL(new Blob([bytes.subarray(1 + bytes[0])], { type: "image/jpeg" }));
  shown.figure.querySelector("img").src = url; // which shows the last picture until this one is there
  URL.revokeObjectURL(shown.url);
  shown.url = url;
}

const receive = {
  hello(said) { byId("node").textContent = said.node; },
  engine(said) {
    byId("engine").textContent = said.message;
    byId("engine").classList.toggle("wrong", said.level > 0);
  },
  parameters(said) {
    if (edited) return;
    for (const [name, value] of Object.entries(said.values)) {
      byId("settings").elements[name].value = Array.isArray(value) ? value.filter(Boolean).join(", ") : value;
    }
  },
  detections(said) {
    const shown = camera(said.camera);
    const counts = {};
    for (const label of said.labels) counts[label] = (counts[label] || 0) + 1;
    const words = Object.entries(counts).map(([label, n]) => (n > 1 ? `${n} ${label}` : label)).join(", ");
    shown.figure.querySelector("img").alt = `${said.camera}: ${said.text || words || "nothing seen"}`;
    shown.figure.querySelector("figcaption").textContent = `${said.camera}: ${said.text || words || "nothing seen"}`;
    shown.age = said.age;
  },
  timing(said) {
    const shown = camera(said.camera);
    shown.counts[said.outcome] = (shown.counts[said.outcome] || 0) + 1;
    const age = said.outcome === "published" ? shown.age : null;
    shown.frames.push({ at: performance.now() / 1000, outcome: said.outcome, latency: said.total, age });
  },
  set(said) {
    byId("said").textContent = said.reason || "applied";
    byId("said").classList.toggle("wrong", Boolean(said.reason));
    if (!said.reason) edited = false;
  },
  answer(said) {
    byId("answer").textContent = said.reason || said.text || said.labels.join(", ") || "nothing seen";
    byId("answer").classList.toggle("wrong", Boolean(said.reason));
  },
};

function connect() {
  const address = new URL("socket", location.href);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  address.search = location.search; // the token, where there is one
  socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => { waiting = 500; };
  socket.onmessage = ({ data }) => {
    if (data instanceof ArrayBuffer) return picture(data);
    const said = JSON.parse(data);
    receive[said.type]?.(said);
  };
  socket.onclose = () => {
    receive.engine({ message: "not connected", level: 1 });
    setTimeout(connect, waiting);
    waiting = Math.min(2 * waiting, 10000);
  };
}

function send(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

byId("settings").addEventListener("input", () => { edited = true; });
byId("settings").addEventListener("submit", (event) => {
  event.preventDefault();
  const { task, classes, prompt, score_threshold } = event.target.elements;
  const wanted = classes.value.split(",").map((word) => word.trim()).filter(Boolean);
  send({ type: "set", values: {
    task: task.value, classes: wanted, prompt: prompt.value, score_threshold: Number(score_threshold.value),
  } });
});
byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const { camera, prompt } = event.target.elements;
  byId("answer").textContent = "asking";
  send({ type: "ask", camera: camera.value, prompt: prompt.value });
});

function draw() {
  const now = performance.now() / 1000;
  const style = getComputedStyle(document.documentElement);
  const colours = { latency: style.getPropertyValue("--latency"), age: style.getPropertyValue("--age") };
  for (const [name, shown] of cameras) {
    const first = shown.frames.findIndex((frame) => frame.at > now - SECONDS);
    shown.frames.splice(0, first < 0 ? shown.frames.length : first);
    const answered = shown.frames.filter((frame) => frame.outcome === "published");
    curve(shown.figure.querySelector(".curve"), name, answered, colours, now);
    timeline(shown.figure.querySelector(".line"), name, shown.frames, now);
    const counts = Object.entries(shown.counts).map(([what, n]) => `${n} ${what.replace("_", " ")}`);
    shown.figure.querySelector(".counts").textContent = counts.join(", ");
  }
}

function curve(canvas, name, answered, colours, now) {
  const { width, height } = canvas;
  const context = canvas.getContext("2d");
  const largest = Math.max(0.05, ...answered.map((frame) => Math.max(frame.latency, frame.age ?? 0)));
  context.clearRect(0, 0, width, height);
  context.lineWidth = 2;
  for (const what of ["latency", "age"]) {
    context.strokeStyle = colours[what];
    context.beginPath();
    for (const frame of answered) {
      if (frame[what] == null) continue;
      context.lineTo(width * (1 + (frame.at - now) / SECONDS), height - (height - 16) * frame[what] / largest);
    }
    context.stroke();
  }
  const last = answered.at(-1);
  const ms = (seconds) => (seconds == null ? "?" : `${Math.round(1000 * seconds)} ms`);
  const words = last ? `latency ${ms(last.latency)}, age ${ms(last.age)}` : "no answer";
  context.font = "14px system-ui, sans-serif";
  context.fillStyle = colours.latency;
  context.fillText(words, 4, 13);
  canvas.setAttribute("aria-label", `${name}, last ${SECONDS} s: ${words}`);
}

function timeline(canvas, name, frames, now) {
  const { width, height } = canvas;
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  for (const frame of frames) {
    context.fillStyle = OUTCOMES[frame.outcome] ?? "#000";
    context.fillRect(width * (1 + (frame.at - now) / SECONDS) - 2, 0, 2, height);
  }
  const kept = frames.filter((frame) => frame.outcome === "published").length;
  canvas.setAttribute("aria-label", `${name}: ${kept} of ${frames.length} frames of the last ${SECONDS} s published`);
}

setInterval(draw, 200);
connect();
