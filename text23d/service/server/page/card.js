// A job as a card of the gallery. Texts are set as text, never as markup.

export const ACTIVE = ["queued", "running"];

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

export function status(job) {
  if (job.cancelling) return "stopping";
  if (job.state === "queued") return job.progress?.iteration ? `goes on soon, number ${job.place} in the queue` : `number ${job.place} in the queue`;
  if (job.state === "failed") return `failed: ${job.failure}`;
  if (job.state === "cancelled") return "cancelled";
  if (job.state === "done") return `done in ${duration(job.ended - job.started)}`;
  const progress = job.progress ?? { stage: "starting", iteration: 0 };
  if (progress.stage === "exporting" || (progress.iterations && progress.iteration >= progress.iterations)) return "writing its files";
  if (progress.stage === "starting" || !progress.iterations) return "starting";
  const left = progress.seconds_left === null || !progress.iteration ? "" : `, about ${duration(progress.seconds_left)} left`;
  return `iteration ${progress.iteration} of ${progress.iterations}${left}`;
}

export class Card {
  constructor(job, acts) {
    this.acts = acts;
    this.image = element("img", { alt: "", loading: "lazy", hidden: true });
    this.waiting = element("span", { className: "quiet", textContent: "no picture yet" });
    this.look = element("button", { className: "look", onclick: () => acts.open(this.job) }, this.image, this.waiting);
    this.title = element("h3");
    this.medium = element("p");
    this.bar = element("progress", { max: 1 });
    this.status = element("p", { className: "status" });
    this.cancel = element("button", { textContent: "Cancel", onclick: () => acts.cancel(this.job) });
    this.remove = element("button", { textContent: "Delete", onclick: () => acts.remove(this.job) });
    const buttons = element("div", { className: "buttons" }, this.cancel, this.remove);
    const body = element("div", { className: "body" }, this.title, this.medium, this.bar, this.status, buttons);
    this.element = element("li", { className: "card" }, this.look, body);
    this.update(job);
  }

  update(job) {
    this.job = job;
    this.element.dataset.state = job.state;
    this.element.dataset.job = job.id;
    this.title.textContent = job.prompt;
    this.medium.textContent = `${job.medium}, seed ${job.seed}`;
    this.status.textContent = status(job);
    this.look.setAttribute("aria-label", `Open ${job.prompt}`);
    if (job.picture && this.shown !== job.picture) {
      this.shown = job.picture;
      this.image.src = job.picture;
      this.image.alt = `Latest picture of ${job.prompt}`;
    }
    this.image.hidden = !job.picture;
    this.waiting.hidden = Boolean(job.picture);
    const progress = job.progress;
    this.bar.hidden = job.state !== "running";
    this.bar.setAttribute("aria-label", `Progress of ${job.prompt}`);
    if (progress?.iterations) this.bar.value = progress.iteration / progress.iterations;
    else this.bar.removeAttribute("value");
    const active = ACTIVE.includes(job.state);
    this.cancel.hidden = !active;
    this.cancel.disabled = job.cancelling;
    this.cancel.setAttribute("aria-label", `Cancel ${job.prompt}`);
    this.remove.hidden = active;
    this.remove.setAttribute("aria-label", `Delete ${job.prompt}`);
  }
}
