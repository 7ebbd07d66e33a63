{
  // The threshold sliders. The fragment of the address holds all that was changed, so that a link shows the same.
  const section = document.getElementById("choose"), PREFIX = "#choose?", ROUNDING = 1e-9;

  const startSliders = () => {
    const data = JSON.parse(document.getElementById("threshold-data").textContent);
    const costs = { miss: section.querySelector("[data-cost=miss]"), alarm: section.querySelector("[data-cost=alarm]") };
    const sliders = [...section.querySelectorAll("[data-slider]")].map((panel, index) => {
      const guard = data.guards[panel.dataset.guard], label = guard.labels[panel.dataset.slider];
      const cells = Object.fromEntries([...panel.querySelectorAll("[data-cell]")].map((cell) => [cell.dataset.cell, cell]));
      return { index, guard, label, cells, key: `${guard.guard}/${label.id}`, threshold: label.start,
        range: panel.querySelector("[type=range]"), number: panel.querySelector("[type=number]"),
        summary: panel.querySelector("summary [data-summary]"), finds: panel.querySelector("[data-finds]"),
        findsLong: panel.querySelector("[data-finds-long]") };
    });

    const shareText = (hits, n) => {  // as as_text.share
      if (!n) return "—";
      const [low, high] = clopperPearson(hits, n, data.confidence);
      const ends = `${Math.floor(100 * low + ROUNDING)}–${Math.ceil(100 * high - ROUNDING)}`;
      if (n < data.few) return `${hits} of ${n} (${ends} %)`;
      const share = hits / n, percent = 100 * share;
      const value = share >= 0.995 && share < 1 ? "over 99 %" : percent > 0 && percent < 0.5 ? "under 1 %" : `${percent.toFixed(0)} %`;
      return `${value} (${ends})`;
    };
    const numberText = (value) => Number(value.toPrecision(3)).toLocaleString("en-US", { maximumSignificantDigits: 3 });
    const recall = section.querySelector("[data-recall]"), problem = section.querySelector("[data-problem]");
    const moved = document.querySelector("[data-thresholds-moved]");
    const costOf = (input) => Math.max(Number(input.value) || 0, 0);

    const stepAt = ({ thresholds }, threshold) => {
      const found = thresholds.findIndex((step) => step >= threshold);
      return found < 0 ? thresholds.length - 1 : found;
    };

    const show = (slider) => {
      const { label, cells, threshold } = slider, step = stepAt(label, threshold);
      const flagged = label.flagged[step], tp = label.right[step], fp = flagged - tp;
      const fn = label.positives - tp, tn = label.n - flagged - fn;
      const miss = costOf(costs.miss), alarm = costOf(costs.alarm);
      // both shares hold at once with the confidence, as each has half the error
      const [misses, alarms] = [fn, fp].map((count) => clopperPearson(count, label.n, (1 + data.confidence) / 2));
      const ends = [0, 1].map((end) => label.n * (misses[end] * miss + alarms[end] * alarm));
      const texts = { tp, fp, fn, tn, precision: shareText(tp, flagged), recall: shareText(tp, label.positives),
        load: shareText(flagged, label.n),
        cost: `${numberText(fn * miss + fp * alarm)} (${numberText(ends[0])}–${numberText(ends[1])})` };
      for (const [name, text] of Object.entries(texts)) cells[name].textContent = text;
      slider.range.value = step;
      slider.range.setAttribute("aria-valuetext", thresholdText(threshold));
      if (document.activeElement !== slider.number) slider.number.value = Number(threshold.toPrecision(6));
      chosenThresholds.set(slider.key, { threshold, start: label.start });
      thresholdChanges.dispatchEvent(new Event("change"));
      slider.summary.textContent =
        `${thresholdText(threshold)}: precision ${texts.precision}, recall ${texts.recall}`.replaceAll(" %", "\u00a0%");
    };

    const set = (slider, value) => {
      if (!Number.isFinite(value)) return;
      const { grid } = slider.label, threshold = Math.min(Math.max(value, 0), 1);
      const marked = slider.label.thresholds.includes(threshold);
      slider.threshold = grid && !marked ? Math.ceil(threshold * grid - ROUNDING) / grid : threshold;
      show(slider);
    };

    const remember = () => {
      const changed = new URLSearchParams();
      for (const [name, input] of Object.entries(costs)) {
        if (input.value !== input.defaultValue) changed.set(name, costOf(input));
      }
      for (const { key, label, threshold } of sliders) if (threshold !== label.start) changed.set(key, threshold);
      if (moved) moved.hidden = sliders.every(({ label, threshold }) => threshold === label.start);
      history.replaceState(null, "", changed.size ? PREFIX + changed : "#choose");
    };

    const restore = () => {
      if (!location.hash.startsWith(PREFIX)) return;
      const changed = new URLSearchParams(location.hash.slice(PREFIX.length));
      for (const [name, input] of Object.entries(costs)) {
        input.value = changed.has(name) ? Math.max(Number(changed.get(name)) || 0, 0) : input.defaultValue;
      }
      for (const slider of sliders) set(slider, changed.has(slider.key) ? Number(changed.get(slider.key)) : slider.label.start);
      if (moved) moved.hidden = sliders.every(({ label, threshold }) => threshold === label.start);
      section.scrollIntoView();
    };

    // whether all fields hold what they ask for; else says which one does not
    const check = () => {
      const problems = [[costs.miss, "A miss must cost 0 or more"], [costs.alarm, "A false alarm must cost 0 or more"],
        [recall, "“Find at least” must be from 1 to 100 %"]].filter(([input]) => {
        input.setAttribute("aria-invalid", !input.checkValidity());
        return !input.checkValidity();
      });
      problem.textContent = problems.length ? `${problems.map(([, text]) => text).join(". ")}. Nothing was changed.` : "";
      return !problems.length;
    };

    const stepFor = ({ right, positives }, share) => right.findLastIndex((count) => count >= share * positives - ROUNDING);

    // the lines that say which threshold finds at least this share of a label
    const showFinds = (share) => {
      const percent = `${Number((100 * share).toPrecision(6))}\u00a0%`;
      for (const { label, finds, findsLong } of sliders) {
        if (!finds) continue;
        const step = stepFor(label, share), hits = label.right[step], at = thresholdText(label.thresholds[step]);
        const found = shareText(hits, label.positives);
        finds.textContent = ` · finds at least ${percent} at ${at}: ${found.replaceAll(" %", "\u00a0%")}, chosen on these same records`;
        findsLong.textContent = `The highest threshold that finds at least ${percent} of them is ${at}: ` +
          `recall ${found}, precision ${shareText(hits, label.flagged[step])}.`;
      }
    };

    // the highest step that finds at least this share of the positives
    const findAtLeast = (share) => {
      for (const slider of sliders) {
        const { positives, thresholds } = slider.label, step = stepFor(slider.label, share);
        if (positives && step >= 0) set(slider, thresholds[step]);
      }
      remember();
    };

    const download = () => {
      const file = structuredClone(data.file);
      for (const { guard, label, threshold } of sliders) {
        file.guards[guard.guard].estimators[guard.estimator].labels[label.id] =
          { chosen: { threshold, source: "label", reason: null } };
      }
      const url = URL.createObjectURL(new Blob([JSON.stringify(file, null, 2) + "\n"], { type: "application/json" }));
      Object.assign(document.createElement("a"), { href: url, download: "thresholds.json" }).click();
      setTimeout(() => URL.revokeObjectURL(url), 10000);
    };

    for (const slider of sliders) {
      slider.range.addEventListener("input", () => { set(slider, slider.label.thresholds[slider.range.value]); remember(); });
      slider.number.addEventListener("input", () => {
        if (slider.number.value !== "") { set(slider, Number(slider.number.value)); remember(); }
      });
      slider.number.addEventListener("change", () => { slider.number.value = Number(slider.threshold.toPrecision(6)); });
      show(slider);
    }
    for (const input of Object.values(costs)) {
      input.addEventListener("input", () => {
        if (!check()) return;
        sliders.forEach(show);
        remember();
      });
    }
    recall.addEventListener("input", check);
    recall.addEventListener("change", () => { if (check()) showFinds(Number(recall.value) / 100); });
    section.querySelector("[data-find]").addEventListener("click", () => {
      if (check()) findAtLeast(Number(recall.value) / 100);
    });
    section.querySelector("[data-reset]").addEventListener("click", () => {
      for (const slider of sliders) set(slider, slider.label.start);
      remember();
    });
    section.querySelector("[data-download]").addEventListener("click", download);
    addEventListener("hashchange", restore);
    restore();
  };

  if (section) startSliders();
}
