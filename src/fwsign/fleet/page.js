"use strict";
(() => {
  const one = (id) => document.getElementById(id);
  const root = document.documentElement;
  const data = JSON.parse(one("data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const number = new Intl.NumberFormat("en");
  const SERIES = 6; // colours; the last is for the oldest releases
  const PAGE = 25; // rows of the table

  // Text of devices only ever becomes text: no function here writes HTML.
  function put(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
    return element;
  }
  const h = (tag, attributes = {}, ...children) => put(document.createElement(tag), attributes, children);
  const s = (tag, attributes = {}, ...children) => put(document.createElementNS(SVG, tag), attributes, children);
  const chip = (words, tone = "") => h("span", { class: `chip ${tone}`, title: words.length > 30 ? words : null }, words);

  const day = (time) => (time ? time.slice(0, 10) : "–");
  const minute = (time) => (time ? `${time.slice(0, 10)} ${time.slice(11, 16)}` : "–");
  const timed = (time) => (time ? h("time", { datetime: time }, minute(time)) : "–");
  const plural = (count, word) => `${number.format(count)} ${word}${count === 1 ? "" : "s"}`;
  const share = (count, all) => {
    const parts = all ? (100 * count) / all : 0;
    return count && parts < 0.1 ? "<0.1 %" : `${parts >= 99.95 || parts === 0 ? Math.round(parts) : parts.toFixed(1)} %`;
  };
  const named = (release) => release.version || (release.sequence === null ? "unknown" : `#${release.sequence}`);
  const proof = (signed) => chip(signed ? "signed" : "only said", signed ? "good" : "warn");

  // --- numbers ----------------------------------------------------------------------------

  const totals = data.totals;
  one("when").append("As of ", timed(data.at), " UTC, from ", h("span", { class: "mono" }, data.source));
  const tiles = [
    ["all", totals.devices, "devices", ""],
    ["signed", totals.signed, `signed their word (${share(totals.signed, totals.devices)})`, totals.signed === totals.devices ? "good" : ""],
    ["silent", totals.silent, `silent for ${data.silent_after}`, totals.silent ? "warn" : ""],
    ["refused", totals.refused, "refused at last", totals.refused ? "bad" : ""],
    ["problems", totals.problems, "problems in receipts", totals.problems ? "bad" : "good"],
  ];
  for (const [kind, count, words, tone] of tiles) {
    const button = h("button", { type: "button", class: `tile ${tone}` }, h("b", {}, number.format(count)), words);
    button.addEventListener("click", () => {
      if (kind === "problems") one("h-problems").scrollIntoView({ block: "center" });
      else choose(kind);
    });
    one("tiles").append(h("li", {}, button));
  }

  // --- releases and refusals ---------------------------------------------------------------

  const colour = new Map(); // of a release: its place among those of its product
  const products = Map.groupBy ? Map.groupBy(data.releases, (release) => release.product) : new Map();
  if (!products.size) {
    for (const release of data.releases) products.set(release.product, [...(products.get(release.product) ?? []), release]);
  }
  for (const releases of products.values()) {
    releases.forEach((release, at) => colour.set(release.key, `k${Math.min(at, SERIES - 1)}`));
  }

  function bar(parts, most) {
    const drawn = s("svg", { "aria-hidden": "true", preserveAspectRatio: "none" });
    drawn.append(s("rect", { class: "track", width: "100%", height: "12" }));
    let from = 0;
    for (const [kind, count] of parts) {
      const wide = most ? (100 * count) / most : 0;
      if (count) drawn.append(s("rect", { class: `fill ${kind}`, x: `${from}%`, width: `${Math.max(wide, 0.4)}%`, height: "12" }));
      from += wide;
    }
    return drawn;
  }

  function row(button, words, drawn, count, said) {
    return put(button, {}, [h("span", { class: "what" }, words), drawn, h("span", { class: "count" }, number.format(count), " ", h("small", {}, said))]);
  }

  for (const [product, releases] of products) {
    const all = releases.reduce((sum, release) => sum + release.devices, 0);
    const list = h("ul", { class: "bars" });
    for (const release of releases) {
      const button = h("button", { type: "button", class: `bar ${colour.get(release.key)}` });
      const fine = release.advisories.length ? release.advisories.join(", ") : null;
      row(
        button,
        [h("b", {}, named(release)), h("small", {}, release.sequence === null ? "" : `#${release.sequence}`),
          release.class === "security" ? h("span", { class: "chip good", title: fine }, "security") : null],
        bar([["", release.signed], ["said", release.devices - release.signed]], all),
        release.devices, share(release.devices, all),
      );
      button.setAttribute("aria-label", `${named(release)}: ${plural(release.devices, "device")}, ${share(release.devices, all)}, ${number.format(release.signed)} of them signed`);
      button.addEventListener("click", () => choose(`release:${release.key}`));
      list.append(h("li", {}, button));
    }
    one("releases").append(h("div", { class: "product" }, h("h3", {}, product, h("span", {}, plural(all, "device"))), list));
  }
  if (!data.releases.length) one("releases").append(h("p", { class: "none" }, "No device has said what it runs."));
  const left = [];
  if (data.left_out.releases) left.push(`${plural(data.left_out.releases, "older release")} with ${plural(data.left_out.devices, "device")} left out`);
  if (totals.unknown) left.push(`${plural(totals.unknown, "device")} never said what they run`);
  if (data.releases.some((release) => release.signed < release.devices)) left.push("the pale part of a bar is only said, not signed");
  if (left.length) one("releases").append(h("p", { class: "note" }, `${left.join("; ")}.`));

  const most = Math.max(0, ...data.refusals.map((refusal) => refusal.devices));
  const refused = h("ul", { class: "bars" });
  for (const refusal of data.refusals) {
    const button = row(h("button", { type: "button", class: "bar" }), [h("b", { class: "mono" }, refusal.code)], bar([["bad", refusal.devices]], most), refusal.devices, day(refusal.last));
    button.setAttribute("aria-label", `${refusal.code}: ${plural(refusal.devices, "device")}, last on ${day(refusal.last)}`);
    button.addEventListener("click", () => choose(`refused:${refusal.code}`));
    refused.append(h("li", {}, button));
  }
  one("refusals").append(data.refusals.length ? refused : h("p", { class: "none" }, "No device refused anything."));

  // --- the rollout over time ---------------------------------------------------------------

  const curves = data.curves;
  for (const curve of curves) one("product").append(h("option", { value: curve.product }, curve.product));
  one("product").hidden = curves.length < 2;
  const shown = () => curves.find((curve) => curve.product === one("product").value) ?? curves[0];

  function steps(most) { // at most five lines, at round numbers
    const rough = Math.max(most, 1) / 4;
    const size = 10 ** Math.floor(Math.log10(rough));
    const unit = Math.max(1, [1, 2, 5, 10].find((times) => times * size >= rough) * size);
    return Array.from({ length: Math.ceil(Math.max(most, 1) / unit) + 1 }, (_, at) => at * unit);
  }
  const at = (points, time) => points.reduce((found, [when, count]) => (when <= time ? count : found), 0);
  const asTime = (seconds) => new Date(1000 * seconds).toISOString();

  function draw() {
    const place = one("curve");
    const curve = shown();
    place.replaceChildren();
    one("legend").replaceChildren();
    if (!curve) return place.append(h("p", { class: "none" }, "No release was taken yet."));
    const series = curve.series.filter((line) => line.points.length);
    const times = series.flatMap((line) => line.points.map(([when]) => when));
    const from = Math.min(...times);
    const until = Math.max(...times, from + 3600, Math.min(Date.parse(data.at) / 1000, Math.max(...times) + 0.04 * (Math.max(...times) - from)));
    const levels = steps(Math.max(...series.flatMap((line) => line.points.map(([, count]) => count))));
    const top = levels.at(-1);
    const [width, height, edge, foot] = [place.clientWidth || 900, 250, 12 + 7 * number.format(top).length, 26];
    const x = (time) => edge + ((time - from) / (until - from)) * (width - edge - 14);
    const y = (count) => 10 + (1 - count / top) * (height - foot - 10);
    const words = series.map((line) => `${named(line)} ${number.format(line.points.at(-1)[1])}`).join(", ");
    const drawn = s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Devices that have taken each release of ${curve.product}: ${words}` });
    for (const level of levels) {
      drawn.append(s("line", { class: "grid", x1: edge, x2: width - 14, y1: y(level), y2: y(level) }));
      drawn.append(s("text", { x: edge - 8, y: y(level) + 4, "text-anchor": "end" }, number.format(level)));
    }
    const count = Math.max(2, Math.min(7, Math.floor(width / 130)));
    for (let tick = 0; tick < count; tick++) {
      const time = from + ((until - from) * tick) / (count - 1);
      const anchor = tick === 0 ? "start" : tick === count - 1 ? "end" : "middle";
      const label = until - from < 4 * 86400 ? minute(asTime(time)).slice(5) : day(asTime(time));
      drawn.append(s("text", { x: x(time), y: height - 4, "text-anchor": anchor }, label));
    }
    for (const line of [...series].reverse()) { // the newest on top
      const path = line.points.map(([when, total], index) => `${index ? "L" : "M"}${x(when).toFixed(1)} ${y(total).toFixed(1)}`).join("");
      const [first] = line.points[0];
      const last = line.points.at(-1)[1];
      const whole = `${path}L${x(until).toFixed(1)} ${y(last).toFixed(1)}`;
      const kind = colour.get(line.key) ?? `k${SERIES - 1}`;
      drawn.append(s("path", { class: `area ${kind}`, d: `${whole}L${x(until).toFixed(1)} ${y(0)}L${x(first).toFixed(1)} ${y(0)}Z` }));
      drawn.append(s("path", { class: `line ${kind}`, d: whole }));
      drawn.append(s("circle", { class: `dot ${kind}`, cx: x(until), cy: y(last), r: 4 }));
    }
    const cross = s("line", { class: "cross", y1: 10, y2: height - foot, visibility: "hidden" });
    drawn.append(cross);
    place.append(drawn);
    legend(series, null);
    drawn.addEventListener("pointermove", (event) => {
      const position = Math.min(Math.max(event.clientX - drawn.getBoundingClientRect().left, edge), width - 14);
      put(cross, { x1: position, x2: position, visibility: "visible" }, []);
      legend(series, from + ((position - edge) / (width - edge - 14)) * (until - from));
    });
    drawn.addEventListener("pointerleave", () => {
      cross.setAttribute("visibility", "hidden");
      legend(series, null);
    });
  }

  function legend(series, time) {
    one("legend").replaceChildren(
      ...series.map((line) => h("li", { class: colour.get(line.key) ?? `k${SERIES - 1}` }, h("span", {}, h("b", {}, named(line)), ` ${number.format(time === null ? line.points.at(-1)[1] : at(line.points, time))}`))),
      time === null ? "" : h("span", {}, `${minute(asTime(time))} UTC`),
    );
  }
  one("product").addEventListener("change", draw);
  new ResizeObserver(() => draw()).observe(one("curve"));

  // --- devices -----------------------------------------------------------------------------

  const KINDS = [["all", "All devices"], ["silent", "Silent ones"], ["refused", "Refused at last"], ["signed", "Signed"], ["said", "Only said"]];
  for (const [kind, words] of KINDS) one("kind").append(h("option", { value: kind }, words));
  for (const release of data.releases) one("kind").append(h("option", { value: `release:${release.key}` }, `Runs ${release.product} ${named(release)}`));
  for (const refusal of data.refusals) one("kind").append(h("option", { value: `refused:${refusal.code}` }, `Refused: ${refusal.code}`));
  one("scope").textContent = data.live ? "Search by id; choose one for its history." : "This file has the first ones of each kind; fwsign fleet device ID has every device.";

  const FITS = {
    all: () => true, silent: (device) => device.silent, refused: (device) => device.code !== null,
    signed: (device) => device.signed, said: (device) => !device.signed,
  };

  async function ask(path, parameters) {
    if (data.live) {
      const answer = await fetch(`${path}?${new URLSearchParams(parameters)}`, { credentials: "same-origin", cache: "no-store" });
      if (!answer.ok) throw new Error(`the collector answers ${answer.status}`);
      return answer.json();
    }
    if (path === "fleet/device") return { device: data.devices.find((device) => device.id === parameters.id), events: data.histories[parameters.id] ?? [], next: null };
    const [kind, word] = parameters.kind.split(/:(.*)/s);
    const fits = word === undefined ? FITS[kind] : kind === "release" ? (device) => device.key === word : (device) => device.code === word;
    const every = data.devices.filter((device) => fits(device) && device.id.startsWith(parameters.like));
    const from = Number(parameters.after) || 0;
    const next = from + PAGE < every.length ? String(from + PAGE) : null;
    return { rows: every.slice(from, from + PAGE), next };
  }

  let asked = 0;
  async function list(after = "") {
    const turn = ++asked;
    const parameters = { kind: one("kind").value, like: one("search").value.trim(), after };
    let found;
    try {
      found = await ask("fleet/devices", parameters);
    } catch (error) {
      if (turn === asked) one("shown").textContent = `No answer: ${error.message}`;
      return;
    }
    if (turn !== asked) return; // a later question was asked meanwhile
    one("rows").replaceChildren(...found.rows.map(deviceRow));
    one("none").hidden = found.rows.length > 0;
    one("shown").textContent = found.rows.length ? `${plural(found.rows.length, "device")}${after ? ` on this page` : ""}${found.next ? ", and more" : ""}` : "";
    one("next").disabled = !found.next;
    one("next").dataset.after = found.next ?? "";
    one("first").disabled = !after;
  }

  function deviceRow(device) {
    const open = h("button", { type: "button", class: "link", "data-device": device.id }, device.name);
    const hash = `#device=${encodeURIComponent(device.id)}`;
    open.addEventListener("click", () => { // the hash tells it, unless it is there already
      if (location.hash === hash) tell(device.id, true);
      else location.hash = hash;
    });
    const result = device.code ? chip(device.code, "bad") : device.result ?? "–";
    return h("tr", {},
      h("th", { scope: "row" }, open, device.station ? h("div", {}, h("small", {}, `at station ${device.station}`)) : null),
      h("td", {}, h("b", {}, device.version ?? (device.sequence === null ? "unknown" : `#${device.sequence}`)), " ", h("small", {}, device.product ?? "")),
      h("td", {}, device.since ? h("time", { datetime: device.since }, day(device.since)) : "–"),
      h("td", {}, timed(device.heard), " ", device.silent ? chip("silent", "warn") : null),
      h("td", {}, result),
      h("td", {}, proof(device.signed)));
  }

  const GOOD = new Set(["installed", "verified", "committed", "accepted", "enrolled", "device-reported"]);
  const tone = (event) => (event.code ? "bad" : GOOD.has(event.result) ? "good" : event.result === "fell back" || event.result === "rolled back" ? "warn" : "");

  async function tell(id, focus, before = "") {
    let found;
    const story = one("story");
    try {
      found = await ask("fleet/device", { id, before });
    } catch (error) {
      found = { device: null, events: [], next: null, error: error.message };
    }
    story.hidden = false;
    const heading = h("div", { class: "name" }, h("h3", { id: "h-story" }, found.device?.name ?? id));
    if (found.device) heading.append(proof(found.device.signed), found.device.silent ? chip("silent", "warn") : "", h("small", {}, `last heard ${minute(found.device.heard)}`));
    const events = h("ol", { class: "events", "aria-label": "Receipts, newest first" });
    for (const event of found.events) {
      const release = event.product ? `${event.product} ${event.version ?? ""}${event.sequence === null ? "" : ` #${event.sequence}`}` : "";
      events.append(h("li", { class: tone(event) },
        h("div", { class: "line" }, timed(event.time), h("b", {}, event.result ?? event.kind ?? "–"), event.code ? chip(event.code, "bad") : null, event.signed ? chip("signed", "good") : chip("only said", "warn"), h("span", {}, release), event.station ? h("small", {}, `at station ${event.station}`) : null),
        event.message ? h("div", { class: "detail" }, event.message) : null));
    }
    const older = h("button", { type: "button", class: "older" }, "Older");
    older.addEventListener("click", () => tell(id, true, found.next));
    const empty = found.error ? `No answer: ${found.error}` : data.live || !found.device ? "No receipts are here for this id." : "This file has no history of this device; fwsign fleet device prints it.";
    story.replaceChildren(heading, found.events.length ? events : h("p", { class: "none" }, empty), ...(found.next ? [older] : []));
    for (const tr of one("rows").children) tr.classList.toggle("chosen", tr.querySelector("button").dataset.device === id);
    if (focus) {
      story.focus({ preventScroll: true });
      story.scrollIntoView({ block: "nearest" });
    }
  }

  function choose(kind) {
    one("kind").value = kind;
    one("search").value = "";
    list();
    one("devices").scrollIntoView({ block: "start" });
  }

  let waiting = 0;
  one("search").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(list, data.live ? 200 : 0);
  });
  one("search").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.value.trim()) tell(event.target.value.trim(), true);
  });
  one("kind").addEventListener("change", () => list());
  one("next").addEventListener("click", () => list(one("next").dataset.after));
  one("first").addEventListener("click", () => list());
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/INPUT|SELECT/.test(document.activeElement.tagName)) {
      event.preventDefault();
      one("search").focus();
    }
    if (event.key === "Escape" && document.activeElement === one("search")) {
      one("search").value = "";
      list();
    }
  });
  function follow() {
    const found = /^#device=(.+)$/.exec(location.hash);
    try {
      if (found) tell(decodeURIComponent(found[1]), true);
    } catch { /* a hash that is no text */ }
  }
  addEventListener("hashchange", follow);

  // --- problems ----------------------------------------------------------------------------

  const kinds = data.problems.kinds;
  if (!kinds.length) one("problems").append(h("p", { class: "none" }, "The collector noticed none."));
  else {
    one("problems").append(h("ul", { class: "legend" }, kinds.map((kind) => h("span", { class: "chip bad" }, `${kind.kind} `, number.format(kind.times)))));
    const body = data.problems.newest.map((problem) => h("tr", {},
      h("td", {}, timed(problem.time)), h("td", {}, chip(problem.kind, "bad")), h("td", { class: "mono" }, problem.device ?? "–"), h("td", {}, problem.detail ?? "")));
    const heads = ["Noticed", "Problem", "Device", "Detail"].map((words) => h("th", { scope: "col" }, words));
    one("problems").append(h("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": "h-problems" }, h("table", {}, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, body))));
  }

  // --- light and dark ----------------------------------------------------------------------

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const theme = () => root.dataset.theme || (dark.matches ? "dark" : "light");
  const showTheme = () => one("theme").setAttribute("aria-pressed", String(theme() === "dark"));
  try {
    const kept = localStorage.getItem("fwsign-theme");
    if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  } catch { /* a file opened where pages may keep nothing */ }
  one("theme").addEventListener("click", () => {
    root.dataset.theme = theme() === "dark" ? "light" : "dark";
    try { localStorage.setItem("fwsign-theme", root.dataset.theme); } catch { /* as above */ }
    showTheme();
  });
  dark.addEventListener("change", showTheme);
  showTheme();
  list();
  follow();
})();
