{
  // The record browser. It is filled when it is opened, so that it does not slow down the page. Texts are only ever
  // set with textContent, so that no record can become markup.
  const PER_PAGE = 10, SCALE = 10000;
  const KINDS = { m: "miss", a: "false alarm", f: "found", r: "rightly not flagged", "-": "not judged" };
  const panel = document.getElementById("record-browser");

  const make = (tag, text, properties = {}) =>
    Object.assign(document.createElement(tag), text === undefined ? {} : { textContent: text }, properties);

  const startBrowser = () => {
    const { guards, records } = JSON.parse(document.getElementById("record-data").textContent);
    const find = (name) => panel.querySelector(`[data-filter="${name}"]`);
    const filters = { guard: find("guard"), label: find("label"), kind: find("kind"), text: find("text") };
    const status = panel.querySelector(".status"), results = panel.querySelector(".results");
    const pages = [...panel.querySelectorAll("[data-page]")];
    const searched = records.map((record) =>
      [record.id, ...record.messages.map((message) => message[1])].join("\n").toLowerCase());
    let matches = [], page = 0;

    guards.forEach((guard, index) => filters.guard.append(make("option", guard.guard, { value: index })));
    filters.guard.parentElement.hidden = guards.length < 2;

    const fillLabels = () => {
      filters.label.replaceChildren(make("option", "any label", { value: "" }));
      guards[filters.guard.value].labels.forEach((label, index) =>
        filters.label.append(make("option", label, { value: index })));
    };

    const isKind = (letter, kind) => {
      if (letter === "-") return false;
      if (kind === "near") return letter !== letter.toLowerCase();
      return kind === "wrong" ? "ma".includes(letter.toLowerCase()) : letter.toLowerCase() === kind;
    };

    const filter = () => {
      const { value: kind } = filters.kind, { value: label } = filters.label, guard = Number(filters.guard.value);
      const text = filters.text.value.trim().toLowerCase();
      matches = records.map((_, index) => index).filter((index) => {
        const cells = records[index].guards[guard];
        if (!cells || !searched[index].includes(text)) return false;
        const letters = label === "" ? [...cells.kinds] : [cells.kinds[label]];
        // without a kind, a label alone selects the records that have it or are flagged with it
        return letters.some((letter) => (kind ? isKind(letter, kind) : label === "" || "maf".includes(letter.toLowerCase())));
      });
      page = 0;
      show();
    };

    const probability = (cells, index) => {
      const value = (cells.p[index] / SCALE).toFixed(3);
      if (!cells.low || cells.low[index] === cells.high[index]) return value;
      return `${value} (${(cells.low[index] / SCALE).toFixed(3)} to ${(cells.high[index] / SCALE).toFixed(3)})`;
    };

    const table = (guard, cells, indices) => {
      const shown = make("table"), head = make("tr"), body = make("tbody");
      const columns = ["Label", "Decision", "Probability", "Threshold", ...(cells.yes ? ["Votes"] : [])];
      for (const column of columns) head.append(make("th", column, { scope: "col" }));
      for (const index of indices) {
        const letter = cells.kinds[index], row = make("tr", undefined, { className: `kind-${letter.toLowerCase()}` });
        row.append(make("th", guard.labels[index], { scope: "row" }));
        row.append(make("td", KINDS[letter.toLowerCase()] + (letter !== letter.toLowerCase() ? ", near the threshold" : "")));
        row.append(make("td", probability(cells, index)), make("td", guard.thresholds[index]));
        if (cells.yes) row.append(make("td", cells.answers[index] ? `${cells.yes[index]} of ${cells.answers[index]}` : "—"));
        body.append(row);
      }
      shown.append(make("thead"), body);
      shown.tHead.append(head);
      const box = make("div", undefined, { className: "scroll", tabIndex: 0 });
      box.append(shown);
      return box;
    };

    const card = (record, guard, cells, place) => {
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
      const telling = all.filter((index) => !"r-".includes(cells.kinds[index]));
      if (telling.length) shown.append(table(guard, cells, telling));
      const more = make("details", undefined, { className: "more" });
      more.append(make("summary", "All labels"));
      more.addEventListener("toggle", () => { if (more.open && more.children.length === 1) more.append(table(guard, cells, all)); });
      shown.append(more);
      return shown;
    };

    const show = () => {
      const index = Number(filters.guard.value), first = page * PER_PAGE, last = Math.min(first + PER_PAGE, matches.length);
      results.replaceChildren(...matches.slice(first, last).map((number, place) =>
        card(records[number], guards[index], records[number].guards[index], first + place + 1)));
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
    filters.guard.addEventListener("change", () => { fillLabels(); filter(); });
    filters.label.addEventListener("change", filter);
    filters.kind.addEventListener("change", filter);
    filters.text.addEventListener("input", filter);
    for (const button of pages) button.addEventListener("click", () => {
      if (turn(Number(button.dataset.page))) focus(0);
    });
    fillLabels();
    filter();
  };

  if (panel) panel.addEventListener("toggle", startBrowser, { once: true });
}
