// Where a replay is: frame `index` of `times` (milliseconds), moving or not.

export class Timeline extends EventTarget {
  constructor() {
    super();
    this.times = [0];
    this.index = 0;
    this.playing = false;
  }

  get last() {
    return this.times.length - 1;
  }

  // New times. Whoever was at the end stays there, so that a live run is followed until somebody looks back.
  extend(times) {
    const follows = this.index >= this.last;
    this.times = times;
    this.index = follows && !this.playing ? this.last : Math.min(this.index, this.last);
    this.#tell();
  }

  load(times, index = times.length - 1) {
    this.pause();
    this.times = times;
    this.index = index;
    this.#tell();
  }

  seek(index) {
    const before = this.index;
    this.index = Math.min(Math.max(index, 0), this.last);
    if (before !== this.index) this.#tell();
  }

  play() {
    if (this.last < 1) return;
    if (this.index >= this.last) this.index = 0;
    this.playing = true;
    this.#begin();
    this.#tell();
    const turn = (now) => {
      if (!this.playing) return;
      let k = this.index;
      while (k < this.last && this.times[k + 1] - this.times[this.from] <= now - this.began) k++;
      if (k >= this.last) this.playing = false;
      if (k !== this.index || !this.playing) {
        this.index = k;
        this.#tell();
      }
      if (this.playing) requestAnimationFrame(turn);
    };
    requestAnimationFrame(turn);
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    this.#tell();
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  #begin() {
    this.began = performance.now();
    this.from = this.index;
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }
}

// Times for frames that are shown one after the other, in about `total` milliseconds.
export function evenly(count, total = 6000) {
  const pace = Math.min(Math.max(total / Math.max(count, 1), 33), 250);
  return Array.from({ length: Math.max(count, 1) }, (_, k) => k * pace);
}

// The times of several films on one clock, and for each of them its frame at each of those times.
export function together(films) {
  const moments = films.flatMap((film) => film.frames.map((frame) => frame.seconds * 1000));
  const times = [...new Set([0, ...moments])].sort((a, b) => a - b);
  const frames = films.map((film) => {
    let k = 0;
    return times.map((time) => {
      while (k < film.last && film.frames[k + 1].seconds * 1000 <= time) k++;
      return k;
    });
  });
  return { times, frames };
}
