"use strict";
(() => {
  const NAMES = ["created", "existing", "rejected", "failed"];
  const MARKS = { working: "●", starting: "○", waiting: "○", held: "◷", throttled: "◐", circuit_open: "◌", paused: "‖", halted: "!", blocked: "✕", refused: "✕", disconnected: "✕", stopping: "■" };
  const QUIET_MS = 5000;
  const SVG = "http://www.w3.org/2000/svg";
  const id = (name) => document.getElementById(name);
  const count = new Intl.NumberFormat("en");
  const number = (value) => count.format(value);
  const rate = (value) => (value >= 100 ? number(Math.round(value)) : value.toFixed(1));
  const clock = (time) => new Date(time).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const minute = (time) => clock(time).slice(0, 5);
  const sum = (values) => values.reduce((total, value) => total + value, 0);

  // Writes only changed text: otherwise screen readers would read it again, and a selection would be lost.
  const put = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };
  const setText = (name, text) => put(id(name), text);
  const make = (name, text, className) => {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    return element;
  };

  const duration = (seconds) => {
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

  // Adds or removes rows until there is one for each entry of `texts`; the elements of the other rows are kept.
  const rows = (name, texts, tag, cells) => {
    const parent = id(name);
    while (parent.children.length > texts.length) parent.lastChild.remove();
    while (parent.children.length < texts.length) {
      const row = make(tag);
      row.append(...cells.map((cell) => make(cell)));
      parent.append(row);
    }
    texts.forEach((row, at) => row.forEach((text, index) => put(parent.children[at].children[index], text)));
    return [...parent.children];
  };

  const values = (name, pairs) => {
    const known = pairs.filter(([, value]) => value !== null);
    const shown = rows(name, known.map(([term, value]) => [term, value]), "div", ["dt", "dd"]);
    shown.forEach((row, index) => row.classList.toggle("warning", Boolean(known[index][2])));
  };

  const shape = (name, attributes) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };

  // The top of the axis: a round number of at least `max`.
  const axisTop = (max) => {
    const step = 10 ** Math.floor(Math.log10(Math.max(max, 1)));
    return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((factor) => factor * step).find((top) => top >= max);
  };

  const chart = (minutes) => {
    const good = minutes.map(({ ended }) => ended[0] + ended[1]);
    const bad = minutes.map(({ ended }) => ended[2] + ended[3]);
    const max = Math.max(...minutes.map(({ ended }) => sum(ended)));
    const top = axisTop(max);
    const height = 100;
    const hatch = shape("pattern", { id: "hatch", width: 4, height: 4, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
    hatch.append(shape("rect", { width: 2, height: 4, class: "hatching" }));
    const parts = [shape("defs", {})];
    parts[0].append(hatch);
    for (const share of [0, 0.5]) parts.push(shape("line", { x1: 0, x2: 600, y1: height * share, y2: height * share, class: "grid" }));
    minutes.forEach((_, index) => {
      const goodHeight = (height * good[index]) / top;
      const badHeight = (height * bad[index]) / top;
      const x = index * 10 + 1;
      if (goodHeight > 0) parts.push(shape("rect", { x, width: 8, y: height - goodHeight, height: goodHeight, class: "ok" }));
      if (badHeight > 0) parts.push(shape("rect", { x, width: 8, y: height - goodHeight - badHeight, height: badHeight, class: "bad", fill: "url(#hatch)" }));
    });
    id("chart").setAttribute("viewBox", `0 0 600 ${height}`);
    id("chart").replaceChildren(...parts);
    const [total, badTotal] = [sum(good) + sum(bad), sum(bad)];
    setText("chart-title", total === 0 ? "No job finished in the last hour."
      : `In the last hour ${number(total)} jobs finished, ${number(badTotal)} of them rejected or failed; at most ${number(max)} a minute.`);
    setText("axis-from", minute(minutes[0].at));
    setText("axis-top", total === 0 ? "\u00a0" : `${number(top)} a minute`);
  };

  const table = (minutes) => {
    const texts = [];
    for (let from = 0; from < minutes.length; from += 5) {
      const part = minutes.slice(from, from + 5);
      texts.unshift([minute(part[0].at), ...NAMES.map((_, index) => number(sum(part.map(({ ended }) => ended[index]))))]);
    }
    rows("minutes", texts, "tr", ["td", "td", "td", "td", "td"]);
  };

  const errors = (counts) => {
    id("no-errors").hidden = counts.length > 0;
    id("errors-table").hidden = counts.length === 0;
    rows("errors", counts.map(({ code, count: times, last }) => [code, number(times), when(last)]), "tr", ["td", "td", "td"]);
  };

  const activity = ({ status, jobsPerSecond, inFlight, queue, rate: limit }) => {
    const parts = status.ready ? [] : ["every job is kept"];
    const share = limit.workers > 1 ? ` by this one of ${limit.workers} workers` : "";
    if (status.ready && jobsPerSecond > 0) parts.push(`${rate(jobsPerSecond)} jobs a second${share}`);
    parts.push(`${number(inFlight)} in progress`);
    if (queue && queue.leftS !== null) parts.push(`about ${duration(queue.leftS)} left`);
    return parts.join(" · ");
  };

  const show = (now) => {
    const { status, rate: limit, latency, queue } = now;
    id("main").hidden = false;
    document.querySelector(".state").classList.toggle("alarm", !status.ready);
    document.title = `${status.state} · plu-onboard`;
    setText("version", now.version);
    setText("at", new Date(now.at).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short" }));
    setText("mark", MARKS[status.state] || "●");
    setText("state", status.reason && status.reason !== status.state ? `${status.state} (${status.reason})` : status.state);
    setText("since", `since ${when(status.since)}${status.until ? `, until ${when(status.until)}` : ""}`);
    setText("message", status.message);
    id("advice").hidden = !status.advice;
    setText("advice", status.advice || "");
    id("warning").hidden = !status.warning;
    setText("warning", status.warning || "");
    setText("doing", activity(now));
    setText("started", now.endedBefore > 0 ? `${number(now.endedBefore)} of them before ${when(now.started)}` : `since ${when(now.started)}`);
    for (const name of NAMES) setText(name, number(now.ended[name]));
    const lost = [
      [now.linksLost.lostAnswer, "the answer was lost"],
      [now.linksLost.notSent, "the API sent none"],
      [now.linksLost.unusable, "the API sent something else in its place"],
    ].filter(([count]) => count > 0);
    id("lost").hidden = lost.length === 0;
    setText("lost", `Created users without a link: ${lost.map(([count, why]) => `${number(count)} (${why})`).join(", ")}`);
    chart(now.minutes);
    table(now.minutes);
    values("queue", queue ? [
      ["signup", number(queue.signup)],
      ["bulk", number(queue.bulk)],
      ["waiting for a retry", number(queue.delayed)],
      ["dead letters", number(queue.dead), queue.dead > 0],
      ["events without a reader", queue.unrouted === null ? null : number(queue.unrouted), queue.unrouted > 0],
      ["unaccounted for", queue.unaccounted ? number(queue.unaccounted) : null, true],
      ["time left", queue.leftS === null ? "–" : duration(queue.leftS)],
    ] : [["depth", "can’t be read at the moment"]]);
    values("rate", [
      [limit.workers > 1 ? `allowed, this one of ${limit.workers} workers` : "allowed", limit.allowedPerSecond === null ? "workers are being counted" : limit.allowedPerSecond > 0 ? rate(limit.allowedPerSecond) : "no limit"],
      ["used, last minute", rate(limit.usedPerSecond)],
    ]);
    const share = limit.allowedPerSecond > 0 ? Math.min(1, limit.usedPerSecond / limit.allowedPerSecond) : 0;
    id("meter").hidden = !(limit.allowedPerSecond > 0);
    id("fill").style.width = `${Math.round(share * 100)}%`;
    const ms = (seconds) => (seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`);
    values("latency", latency ? [
      ["median", ms(latency.p50S)],
      ["99th percentile", ms(latency.p99S)],
    ] : [["last 5 minutes", "no creations"]]);
    errors(now.errors);
  };

  const connection = (isUp) => {
    id("live").classList.toggle("lost", !isUp);
    setText("link", isUp ? "live at" : "no answer since");
    if (isUp) return;
    // The last known state must not look like the current one.
    document.querySelector(".state").classList.add("alarm");
    document.title = "no answer · plu-onboard";
    setText("mark", "✕");
    setText("state", "no answer");
    setText("since", `since ${clock(lastEvent)}`);
    setText("message", "The worker doesn’t answer");
    id("advice").hidden = false;
    setText("advice", "check whether it still runs and can be reached. Everything below is its last known state.");
    setText("doing", "");
  };

  let lastEvent = Date.now();
  const receive = (text) => {
    show(JSON.parse(text));
    lastEvent = Date.now();
    connection(true);
  };
  receive(id("embedded").textContent);

  // A browser reconnects by itself when a stream has ended, but not when it was refused: then the status is requested.
  new EventSource("/status/events").onmessage = (event) => receive(event.data);
  setInterval(async () => {
    if (Date.now() - lastEvent < QUIET_MS) return;
    try {
      const answer = await fetch("/status.json");
      receive(await answer.text());
    } catch {
      connection(false);
    }
  }, QUIET_MS);
})();
