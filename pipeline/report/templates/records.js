{
  // The record browser. It is filled when it is opened, so that it does not slow down the page. Texts are only ever
  // set with textContent, so that no record can become markup.
  const PER_PAGE = 10, SCALE = 10000;
  const KINDS = { m: "miss", a: "false alarm", f: "found", r: "rightly not flagged", b: "only bounds", "-": "not judged" };
  const panel = document.getElementById("record-browser");

  const make = (tag, text, properties = {}) =>
    Object.assign(document.createElement(tag), text === undefined ? {} : { textContent: text }, properties);

  const startBrowser = () => {
    const { near, least, guards, records } = JSON.parse(document.getElementById("record-data").textContent);
    const find = (name) => panel.querySelector(`[data-filter="${name}"]`);
    const filters = { guard: find("guard"), label: find("label"), kind: find("kind"), text: find("text") };
    const status = panel.querySelector(".status"), state = panel.querySelector(".state"), results = panel.querySelector(".results");
    const pages = [...panel.querySelectorAll("[data-page]")];
    const searched = records.map((record) =>
      [record.id, ...record.messages.map((message) => message[1])].join("\n").toLowerCase());
    let order = [], kinds = [], matches = [], page = 0;

    guards.forEach((guard, index) => filters.guard.append(make("option", guard.guard, { value: index })));
    filters.guard.parentElement.hidden = guards.length < 2;

    const fillLabels = () => {
      filters.label.replaceChildren(make("option", "any label", { value: "" }));
      guards[filters.guard.value].labels.forEach((label, index) =>
        filters.label.append(make("option", label, { value: index })));
    };

    const chosen = (guard, index) => chosenThresholds.get(`${guard.guard}/${guard.ids[index]}`);
    const thresholdOf = (guard, index) => chosen(guard, index)?.threshold ?? guard.thresholds[index];

    // m miss, a false alarm, f found, r rightly not flagged, in capitals near the threshold; b only bounds; - not judged
    const kindOf = (cells, index, threshold) => {
      if (cells.truth[index] === "-") return "-";
      const p = cells.p[index];
      if (p === null) return "b";
      // probabilities have 6 digits, so the threshold gets as many: a score that is a threshold reaches it
      const flagged = p >= Number(threshold.toPrecision(6));
      const letter = cells.truth[index] === "1" ? (flagged ? "f" : "m") : flagged ? "a" : "r";
      const around = cells.low && cells.low[index] / SCALE < threshold && threshold <= cells.high[index] / SCALE;
      const upper = cells.high && cells.high[index] !== null ? Math.max(cells.high[index] / SCALE, p) : p;
      return upper >= least && (around || Math.abs(p - threshold) <= near) ? letter.toUpperCase() : letter;
    };

    // as in record_browser.py: wrong decisions first, the most confident ones at the top, then right ones by closeness
    const informative = (cells, letters, thresholds) => Math.max(...letters.map((letter, index) => {
      if ("b-".includes(letter)) return -1;
      const distance = Math.abs(cells.p[index] - thresholds[index]);
      return "ma".includes(letter.toLowerCase()) ? 1 + distance : 1 - distance;
    }));

    const decide = () => {
      const number = Number(filters.guard.value), guard = guards[number];
      const thresholds = guard.ids.map((_, index) => thresholdOf(guard, index));
      const values = records.map(({ guards: cells }, index) => {
        if (!cells[number]) return -2;
        kinds[index] = guard.ids.map((_, label) => kindOf(cells[number], label, thresholds[label]));
        return informative(cells[number], kinds[index], thresholds);
      });
      order = records.map((_, index) => index).sort((a, b) => values[b] - values[a]);
      const changed = guard.ids.map((_, index) => index).filter((index) => {
        const found = chosen(guard, index);
        return found && found.threshold !== found.start;
      });
      state.textContent = changed.length
        ? `Decided at the thresholds that you chose: ${changed.map((index) => `${guard.labels[index]} ${thresholdText(thresholds[index])}`).join(", ")}` +
          `${changed.length < guard.ids.length ? "; the other labels at the recommended thresholds" : ""}.`
        : "Decided at the recommended thresholds. Move a slider under “Choose thresholds”, and this list follows.";
    };

    const isKind = (letter, kind) => {
      if ("b-".includes(letter)) return false;
      if (kind === "near") return letter !== letter.toLowerCase();
      return kind === "wrong" ? "ma".includes(letter.toLowerCase()) : letter.toLowerCase() === kind;
    };

    // whether a record has the label or is flagged with it
    const isTelling = (cells, letters, index) => cells.truth[index] === "1" || letters[index].toLowerCase() === "a";

    const filter = () => {
      const { value: kind } = filters.kind, { value: label } = filters.label, guard = Number(filters.guard.value);
      const text = filters.text.value.trim().toLowerCase();
      matches = order.filter((index) => {
        const cells = records[index].guards[guard];
        if (!cells || !searched[index].includes(text)) return false;
        if (label !== "" && !kind) return isTelling(cells, kinds[index], label);
        const letters = label === "" ? kinds[index] : [kinds[index][label]];
        return !kind || letters.some((letter) => isKind(letter, kind));
      });
      page = 0;
      show();
    };

    const probability = (cells, index) => {
      const p = cells.p[index], ends = cells.low && [cells.low[index], cells.high[index]];
      const shown = ends && ends[0] !== null && ends[0] !== ends[1] && ends.map((end) => (end / SCALE).toFixed(3)).join(" to ");
      if (p === null) return shown || "—";
      return shown ? `${p.toFixed(3)} (${shown})` : p.toFixed(3);
    };

    const table = (guard, cells, letters, indices) => {
      const shown = make("table"), head = make("tr"), body = make("tbody");
      const columns = ["Label", "Decision", "Probability", "Threshold", ...(cells.yes ? ["Votes"] : [])];
      for (const column of columns) head.append(make("th", column, { scope: "col" }));
      for (const index of indices) {
        const letter = letters[index], row = make("tr", undefined, { className: `kind-${letter.toLowerCase()}` });
        row.append(make("th", guard.labels[index], { scope: "row" }));
        row.append(make("td", KINDS[letter.toLowerCase()] + (letter !== letter.toLowerCase() ? ", near the threshold" : "")));
        row.append(make("td", probability(cells, index)), make("td", cells.p[index] === null ? "—" : thresholdText(thresholdOf(guard, index))));
        if (cells.yes) row.append(make("td", cells.answers[index] ? `${cells.yes[index]} of ${cells.answers[index]}` : "—"));
        body.append(row);
      }
      shown.append(make("thead"), body);
      shown.tHead.append(head);
      const box = make("div", undefined, { className: "scroll", tabIndex: 0 });
      box.append(shown);
      watchWidth(box);
      return box;
    };

    const card = (record, guard, cells, letters, place) => {
      const shown = make("article", undefined, { className: "record", tabIndex: -1 });
      shown.setAttribute("aria-label", `Record ${place} of ${matches.length}`);
      for (const [role, content] of record.messages) {
        const quote = make("blockquote", undefined, { tabIndex: 0, dir: "auto" });
        if (record.messages.length > 1) quote.append(make("b", `${role} `));
        quote.append(content);
        shown.append(quote);
      }
      const meta = make("p", undefined, { className: "meta" });
      meta.append(make("code", record.id), ` · ${record.split} · gold: ${record.gold.join(", ") || "no label"}`);
      shown.append(meta);
      const all = guard.labels.map((_, index) => index);
      const telling = all.filter((index) => isTelling(cells, letters, index) || letters[index] === "R");
      if (telling.length) shown.append(table(guard, cells, letters, telling));
      const more = make("details", undefined, { className: "more" });
      more.append(make("summary", "All labels"));
      more.addEventListener("toggle", () => { if (more.open && more.children.length === 1) more.append(table(guard, cells, letters, all)); });
      shown.append(more);
      return shown;
    };

    const show = () => {
      const index = Number(filters.guard.value), first = page * PER_PAGE, last = Math.min(first + PER_PAGE, matches.length);
      results.replaceChildren(...matches.slice(first, last).map((number, place) =>
        card(records[number], guards[index], records[number].guards[index], kinds[number], first + place + 1)));
      status.textContent = matches.length
        ? `Records ${first + 1} to ${last} of ${matches.length.toLocaleString("en")} that match` : "No record matches";
      for (const button of pages) button.disabled = button.dataset.page === "-1" ? page === 0 : last >= matches.length;
    };

    const turn = (step) => {
      if (page + step < 0 || (page + step) * PER_PAGE >= matches.length) return false;
      page += step;
      show();
      return true;
    };

    const focus = (position) => results.children[position]?.focus();

    const move = (step) => {
      const cards = [...results.children], at = cards.findIndex((item) => item.contains(document.activeElement));
      if (at < 0) focus(0);
      else if (cards[at + step]) focus(at + step);
      else if (turn(step)) focus(step > 0 ? 0 : results.children.length - 1);
    };

    const KEYS = {
      j: () => move(1), k: () => move(-1), n: () => turn(1) && focus(0), p: () => turn(-1) && focus(0),
      "/": () => filters.text.focus(),
    };
    panel.addEventListener("keydown", (event) => {
      if (!KEYS[event.key] || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select")) return;
      event.preventDefault();
      KEYS[event.key]();
    });
    filters.guard.addEventListener("change", () => { fillLabels(); decide(); filter(); });
    let waiting = false;
    thresholdChanges.addEventListener("change", () => {
      if (!waiting) requestAnimationFrame(() => { waiting = false; decide(); filter(); });  // once per frame
      waiting = true;
    });
    filters.label.addEventListener("change", filter);
    filters.kind.addEventListener("change", filter);
    filters.text.addEventListener("input", filter);
    for (const button of pages) button.addEventListener("click", () => {
      if (turn(Number(button.dataset.page))) focus(0);
    });
    fillLabels();
    decide();
    filter();
  };

  if (panel) panel.addEventListener("toggle", startBrowser, { once: true });
  for (const link of document.querySelectorAll("[data-record]")) link.addEventListener("click", (event) => {
    event.preventDefault();
    panel.open = true;
    const search = panel.querySelector("[data-filter=text]");
    const show = () => {
      search.value = link.dataset.record;
      search.dispatchEvent(new Event("input"));
      panel.scrollIntoView();
    };
    requestAnimationFrame(() => requestAnimationFrame(show));  // the browser is filled when it opens
  });
}
