// The page: asks, shows jobs as they change, and opens what was made.
import { ACTIVE, Card, duration, element } from "./card.js";
import { show } from "./mesh.js";

const at = (id) => document.getElementById(id);
const cards = new Map();
let media = [], stream = null, next = null, opened = null, closeMesh = null, retry = 1000;

if (!document.cookie.includes("text23d_client=")) {
  const name = [...crypto.getRandomValues(new Uint8Array(9))].map((each) => each.toString(16).padStart(2, "0")).join("");
  document.cookie = `text23d_client=${name}; path=/; max-age=31536000; samesite=strict`;
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("the server does not answer");
  }
  if (answer.status === 401) login();
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    const wait = answer.headers.get("Retry-After");
    throw new Error((said.detail ?? `the server answered ${answer.status}`) + (wait ? ` (in ${wait} s)` : ""));
  }
  return answer.status === 204 ? null : answer.json();
}

const announce = (text) => { at("announce").textContent = text; };

function login() {
  at("login").hidden = false;
  at("ask").hidden = true;
  stream?.close();
  at("token").focus();
}

at("login-form").onsubmit = async (event) => {
  event.preventDefault();
  at("login-problem").textContent = "";
  try {
    await ask("/api/session", { method: "POST", headers: { Authorization: `Bearer ${at("token").value}` } });
    at("token").value = "";
    at("login").hidden = true;
    at("ask").hidden = false;
    await begin();
  } catch (error) {
    at("login-problem").textContent = error.message;
  }
};

// What may be asked for

const chosen = () => media.find((each) => each.name === new FormData(at("ask-form")).get("medium")) ?? media[0];

function showMedia(told) {
  media = told.media;
  at("prompt").maxLength = told.longest_prompt;
  at("iterations").max = told.most_iterations;
  at("media").replaceChildren(...media.map((each, index) => {
    const input = element("input", { type: "radio", name: "medium", value: each.name, checked: index === 0, onchange: choose });
    return element("label", {}, input, each.name);
  }));
  choose();
}

function choose() {
  const medium = chosen();
  at("iterations").placeholder = medium.iterations;
  at("prompt").placeholder = medium.examples[0] ?? "a prompt";
  const take = (text) => element("button", { type: "button", textContent: text, onclick: () => { at("prompt").value = text; at("prompt").focus(); } });
  at("examples").replaceChildren(...medium.examples.map(take));
  at("words-about").textContent = medium.words.length
    ? `These ${medium.words.length} words are understood. One that is pressed is added to the prompt.`
    : "This medium takes any words.";
  at("word-filter").hidden = !medium.words.length;
  showWords();
}

function showWords() {
  const wanted = at("word-filter").value.trim().toLowerCase();
  const add = (word) => element("button", { type: "button", textContent: word, onclick: () => { at("prompt").value = `${at("prompt").value} ${word}`.trim(); } });
  at("words").replaceChildren(...chosen().words.filter((each) => each.includes(wanted)).map(add));
}

at("word-filter").oninput = showWords;

at("ask-form").onsubmit = async (event) => {
  event.preventDefault();
  const number = (id) => (at(id).value === "" ? null : Number(at(id).value));
  const asked = { prompt: at("prompt").value, medium: chosen().name, seed: number("seed") ?? 0, iterations: number("iterations"), guidance: number("guidance") };
  at("problem").textContent = "";
  at("prompt").removeAttribute("aria-invalid");
  try {
    const job = await ask("/api/jobs", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(asked) });
    take(job);
    announce(`${job.prompt} is number ${job.place ?? 1} in the queue`);
  } catch (error) {
    at("problem").textContent = error.message;
    at("prompt").setAttribute("aria-invalid", "true");
    at("prompt").focus();
  }
};

// The gallery

const acts = {
  open,
  cancel: (job) => act(`/api/jobs/${job.id}/cancel`, "POST", job),
  remove: async (job) => {
    if (await act(`/api/jobs/${job.id}`, "DELETE", job)) forget(job.id);
  },
};

async function act(path, method, job) {
  try {
    const told = await ask(path, { method });
    if (told) take(told);
    return true;
  } catch (error) {
    announce(`${job.prompt}: ${error.message}`);
    at("problem").textContent = error.message;
    return false;
  }
}

function take(job, last = false) {
  const known = cards.get(job.id);
  if (!known) {
    const card = new Card(job, acts);
    cards.set(job.id, card);
    const after = [...cards.values()].filter((each) => each.job.created < job.created).sort((a, b) => b.job.created - a.job.created)[0];
    if (last || !after) at("gallery").append(card.element);
    else after.element.before(card.element);
  } else {
    const before = known.job.state;
    known.update(job);
    if (before !== job.state && !ACTIVE.includes(job.state)) announce(`${job.prompt}: ${job.state}`);
  }
  if (opened === job.id && known && job.files.length !== at("files").childElementCount) open(job);
  at("empty").hidden = cards.size > 0;
}

function forget(id) {
  const card = cards.get(id);
  if (!card) return;
  const neighbour = card.element.nextElementSibling ?? card.element.previousElementSibling;
  const focused = card.element.contains(document.activeElement);
  card.element.remove();
  cards.delete(id);
  if (opened === id) at("viewer").close();
  if (focused) (neighbour?.querySelector("button") ?? at("prompt")).focus();
  at("empty").hidden = cards.size > 0;
}

async function page(after) {
  const told = await ask(`/api/jobs?limit=24${after ? `&after=${after}` : ""}`);
  told.jobs.forEach((job) => take(job, Boolean(after)));
  next = told.next;
  at("older").hidden = !next;
}

at("older").onclick = () => page(next).catch((error) => announce(error.message));

function listen() {
  stream?.close();
  stream = new EventSource("/api/events");
  stream.addEventListener("open", () => { at("connection").textContent = ""; retry = 1000; });
  stream.addEventListener("job", (event) => take(JSON.parse(event.data)));
  stream.addEventListener("deleted", (event) => forget(JSON.parse(event.data).id));
  stream.addEventListener("error", () => {
    at("connection").textContent = "The server is away; waiting for it";
    if (stream.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    setTimeout(() => begin().catch(() => listen()), retry);
    retry = Math.min(15000, 2 * retry);
  });
}

// What was made

at("viewer-close").onclick = () => at("viewer").close();
at("viewer").onclick = (event) => { if (event.target === at("viewer")) at("viewer").close(); };
at("viewer").onclose = () => {
  closeMesh?.();
  closeMesh = null;
  at("stage").replaceChildren();
  cards.get(opened)?.look.focus();
  opened = null;
};

async function open(job) {
  job = cards.get(job.id)?.job ?? job;
  opened = job.id;
  closeMesh?.();
  closeMesh = null;
  const file = (name) => job.files.find((each) => each.name === name);
  at("viewer-title").textContent = job.prompt;
  at("hint").textContent = "";
  const shown = [];
  for (const name of ["turntable.mp4", "pan.mp4", "video.mp4"]) {
    const video = file(name);
    if (video) shown.push(element("video", { src: video.url, controls: true, loop: true, muted: true, playsInline: true, ariaLabel: `${name} of ${job.prompt}` }));
  }
  if (file("audio.wav")) shown.push(element("audio", { src: file("audio.wav").url, controls: true, ariaLabel: `Sound of ${job.prompt}` }));
  const picture = ["image.png", "panorama.png", "audio.png"].map(file).find(Boolean)?.url ?? job.picture;
  if (picture && !file("mesh.glb")) shown.unshift(element("img", { src: picture, alt: `Picture of ${job.prompt}` }));
  if (!shown.length && !file("mesh.glb")) shown.push(element("p", { className: "quiet", textContent: "There is nothing to see yet." }));
  at("stage").replaceChildren(...shown);
  at("files").replaceChildren(...job.files.map((each) => element("li", {}, element("a", {
    className: "file", href: each.url, download: `${slug(job.prompt)}-${each.name}`, textContent: `${each.name}, ${size(each.bytes)}`,
  }))));
  if (!at("viewer").open) at("viewer").showModal();
  facts(job, file("summary.json"));
  if (file("mesh.glb")) {
    const canvas = element("canvas", { tabIndex: 0, id: "mesh" });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `3-D view of ${job.prompt}. Arrow keys turn it, plus and minus zoom.`);
    at("stage").prepend(canvas);
    try {
      const close = await show(canvas, file("mesh.glb").url);
      if (opened !== job.id || !canvas.isConnected) close();
      else closeMesh = close;
      at("hint").textContent = "Drag, or press the arrow keys, to turn it; scroll, or press + and -, to come nearer.";
    } catch (error) {
      canvas.remove();
      at("hint").textContent = `The object cannot be shown in 3-D here: ${error.message}`;
      if (job.picture) at("stage").prepend(element("img", { src: job.picture, alt: `Picture of ${job.prompt}` }));
    }
  }
}

async function facts(job, summary) {
  const told = [["Medium", job.medium], ["Seed", job.seed], ["State", job.failure ?? job.state]];
  if (job.ended && job.started) told.push(["Time", duration(job.ended - job.started)]);
  if (summary) {
    const made = await ask(summary.url).catch(() => ({}));
    told.push(["Iterations", made.iterations ?? ""]);
    for (const [name, value] of Object.entries(made.score ?? {})) told.push([`Judge: ${name.replaceAll("_", " ")}`, value.toFixed(2)]);
  }
  if (opened !== job.id) return;
  at("facts").replaceChildren(...told.flatMap(([name, value]) => [element("dt", { textContent: name }), element("dd", { textContent: value })]));
}

const size = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
const slug = (text) => text.toLowerCase().replace(/[^a-z0-9]+/g, "-").slice(0, 40) || "untitled";

async function begin() {
  showMedia(await ask("/api/media"));
  await page(null);
  at("empty").hidden = cards.size > 0;
  listen();
}

begin().catch((error) => { at("connection").textContent = error.message; });
