"use strict";
(() => {
  const NAMES = ["created", "existing", "rejected", "failed"];
  const MARKS = { working: "●", starting: "○", waiting: "○", held: "◷", throttled: "◐", broken: "◌", paused: "‖", halted: "!", blocked: "✕", refused: "✕", disconnected: "✕", stopping: "■" };
  const QUIET_MS = 5000;
  const SVG = "http://www.w3.org/2000/svg";
  const id = (name) => document.getElementById(name);
  const count = new Intl.NumberFormat("en");
  const number = (value) => count.format(value);
  const rate = (value) => (value >= 100 ? number(Math.round(value)) : value.toFixed(1));
  const clock = (time) => new Date(time).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const minute = (time) => clock(time).slice(0, 5);
  const sum = (values) => values.reduce((total, value) => total + value, 0);

  // Unchanged text is left alone, or screen readers would read it again and lose their place, and a selection would be gone.
  const put = (place, text) => {
    if (place.textContent !== text) place.textContent = text;
  };
  const say = (name, text) => put(id(name), text);
  const make = (name, text, className) => {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    return element;
  };

  const long = (seconds) => {
    if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
    if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
    if (seconds < 172800) return `${(seconds / 3600).toFixed(1)} h`;
    return `${Math.round(seconds / 86400)} days`;
  };
  const when = (time) => {
    const date = new Date(time);
    const isToday = date.toDateString() === new Date().toDateString();
    return isToday ? clock(time) : `${date.toLocaleDateString("en-GB", { day: "numeric", month: "short" })}, ${minute(time)}`;
  };

  // As many rows as there are texts for; what a row is made of stays.
  const rows = (name, texts, tag, cells) => {
    const place = id(name);
    while (place.children.length > texts.length) place.lastChild.remove();
    while (place.children.length < texts.length) {
      const row = make(tag);
      row.append(...cells.map((cell) => make(cell)));
      place.append(row);
    }
    texts.forEach((row, at) => row.forEach((text, index) => put(place.children[at].children[index], text)));
    return [...place.children];
  };

  const facts = (name, pairs) => {
    const known = pairs.filter(([, value]) => value !== null);
    const shown = rows(name, known.map(([term, value]) => [term, value]), "div", ["dt", "dd"]);
    shown.forEach((row, index) => row.classList.toggle("watch", Boolean(known[index][2])));
  };

  const shape = (name, attributes) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };

  const niceTop = (most) => {
    const step = 10 ** Math.floor(Math.log10(Math.max(most, 1)));
    return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((factor) => factor * step).find((top) => top >= most);
  };

  const chart = (minutes) => {
    const well = minutes.map(({ ended }) => ended[0] + ended[1]);
    const badly = minutes.map(({ ended }) => ended[2] + ended[3]);
    const most = Math.max(...minutes.map(({ ended }) => sum(ended)));
    const top = niceTop(most);
    const height = 100;
    const hatch = shape("pattern", { id: "hatch", width: 4, height: 4, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
    hatch.append(shape("rect", { width: 2, height: 4, class: "hatching" }));
    const parts = [shape("defs", {})];
    parts[0].append(hatch);
    for (const share of [0, 0.5]) parts.push(shape("line", { x1: 0, x2: 600, y1: height * share, y2: height * share, class: "grid" }));
    minutes.forEach((_, index) => {
      const up = (height * well[index]) / top;
      const over = (height * badly[index]) / top;
      const x = index * 10 + 1;
      if (up > 0) parts.push(shape("rect", { x, width: 8, y: height - up, height: up, class: "ok" }));
      if (over > 0) parts.push(shape("rect", { x, width: 8, y: height - up - over, height: over, class: "bad", fill: "url(#hatch)" }));
    });
    id("chart").setAttribute("viewBox", `0 0 600 ${height}`);
    id("chart").replaceChildren(...parts);
    const [total, bad] = [sum(well) + sum(badly), sum(badly)];
    say("chart-title", total === 0 ? "Nothing ended in the last hour."
      : `In the last hour ${number(total)} ended, ${number(bad)} of them rejected or failed; ${number(most)} in the best minute.`);
    say("axis-from", minute(minutes[0].at));
    say("axis-top", total === 0 ? "\u00a0" : `${number(top)} a minute`);
  };

  const table = (minutes) => {
    const texts = [];
    for (let from = 0; from < minutes.length; from += 5) {
      const part = minutes.slice(from, from + 5);
      texts.unshift([minute(part[0].at), ...NAMES.map((_, index) => number(sum(part.map(({ ended }) => ended[index]))))]);
    }
    rows("minutes", texts, "tr", ["td", "td", "td", "td", "td"]);
  };

  const errors = (seen) => {
    id("no-errors").hidden = seen.length > 0;
    id("errors-table").hidden = seen.length === 0;
    rows("errors", seen.map(({ code, count: times, last }) => [code, number(times), when(last)]), "tr", ["td", "td", "td"]);
  };

  const doing = ({ standing, jobsPerSecond, inFlight, queue, rate: pace }) => {
    const parts = standing.ready ? [] : ["every job is kept"];
    const whose = pace.workers > 1 ? ` by this one of ${pace.workers} workers` : "";
    if (standing.ready && jobsPerSecond > 0) parts.push(`${rate(jobsPerSecond)} jobs a second${whose}`);
    parts.push(`${number(inFlight)} in hand`);
    if (queue && queue.leftS !== null) parts.push(`about ${long(queue.leftS)} left`);
    return parts.join(" · ");
  };

  const show = (now) => {
    const { standing, rate: pace, latency, queue } = now;
    id("main").hidden = false;
    document.querySelector(".state").classList.toggle("stands", !standing.ready);
    document.title = `${standing.state} · plu-onboard`;
    say("version", now.version);
    say("at", new Date(now.at).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short" }));
    say("mark", MARKS[standing.state] || "●");
    say("state", standing.reason && standing.reason !== standing.state ? `${standing.state} (${standing.reason})` : standing.state);
    say("since", `since ${when(standing.since)}${standing.until ? `, until ${when(standing.until)}` : ""}`);
    say("message", standing.message);
    id("advice").hidden = !standing.advice;
    say("advice", standing.advice || "");
    say("doing", doing(now));
    say("started", now.endedBefore > 0 ? `${number(now.endedBefore)} of them before ${when(now.started)}` : `since ${when(now.started)}`);
    for (const name of NAMES) say(name, number(now.ended[name]));
    id("recovered").hidden = now.recovered === 0;
    say("recovered", `${number(now.recovered)} of the created have no link: their answer was lost`);
    chart(now.minutes);
    table(now.minutes);
    facts("queue", queue ? [
      ["signup", number(queue.signup)],
      ["bulk", number(queue.bulk)],
      ["put off for later", number(queue.delayed)],
      ["dead letters", number(queue.dead), queue.dead > 0],
      ["events without a reader", queue.unrouted === null ? null : number(queue.unrouted), queue.unrouted > 0],
      ["unaccounted for", queue.unaccounted ? number(queue.unaccounted) : null, true],
      ["time left", queue.leftS === null ? "–" : long(queue.leftS)],
    ] : [["state", "can’t be read at the moment"]]);
    facts("pace", [
      [pace.workers > 1 ? `allowed, this one of ${pace.workers} workers` : "allowed", pace.allowedPerSecond === null ? "workers are being counted" : pace.allowedPerSecond > 0 ? rate(pace.allowedPerSecond) : "no limit"],
      ["used, last minute", rate(pace.usedPerSecond)],
    ]);
    const share = pace.allowedPerSecond > 0 ? Math.min(1, pace.usedPerSecond / pace.allowedPerSecond) : 0;
    id("meter").hidden = !(pace.allowedPerSecond > 0);
    id("fill").style.width = `${Math.round(share * 100)}%`;
    const ms = (seconds) => (seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`);
    facts("latency", latency ? [
      ["half of them within", ms(latency.p50S)],
      ["99 of 100 within", ms(latency.p99S)],
    ] : [["last 5 minutes", "none asked for"]]);
    errors(now.errors);
  };

  const link = (isUp) => {
    id("live").classList.toggle("lost", !isUp);
    say("link", isUp ? "live at" : "no answer since");
    if (isUp) return;
    // What was true when it was last heard of is not to be taken for what is.
    document.querySelector(".state").classList.add("stands");
    document.title = "no answer · plu-onboard";
    say("mark", "✕");
    say("state", "no answer");
    say("since", `since ${clock(heard)}`);
    say("message", "The worker doesn’t answer");
    id("advice").hidden = false;
    say("advice", "see whether it still runs, and whether the way to it is open. Everything below is from before.");
    say("doing", "");
  };

  let heard = Date.now();
  const receive = (text) => {
    show(JSON.parse(text));
    heard = Date.now();
    link(true);
  };
  receive(id("first").textContent);

  // A browser opens a stream that ended again by itself, but not one that was refused: then it is asked for.
  new EventSource("/status/events").onmessage = (event) => receive(event.data);
  setInterval(async () => {
    if (Date.now() - heard < QUIET_MS) return;
    try {
      const answer = await fetch("/status.json");
      receive(await answer.text());
    } catch {
      link(false);
    }
  }, QUIET_MS);
})();
