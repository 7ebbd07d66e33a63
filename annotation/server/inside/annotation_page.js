// What differs from Argilla's own annotation page. annotation_page.py puts calls of these functions into its scripts.
//
// Argilla's keys of more than nine options are 1, 2, … 12, and it waits 300 ms for a second digit: 12 typed slowly ticks
// 1 and 2, 1 and 3 typed fast tick 13, and Enter within the 300 ms submits without the last label. Here all keys of a
// question have the same number of digits (01, 02, … 12): at every speed there is one way to read them.
"use strict";

self.annotationPage = (() => {
  const FORGET = 3000; // milliseconds until the first digits of a key that was not finished are dropped

  const digits = (options) => String(options.length).length;

  /** The keys of a question's options, by id. */
  function keys(options) {
    const width = digits(options);
    return Object.fromEntries(options.map((option, at) => [option.id, String(at + 1).padStart(width, "0")]));
  }

  /** Remembers the first digits of a key, and dims the options that it cannot become. */
  function expect(question, typed) {
    clearTimeout(question.timer);
    question.keyCode = typed;
    question.timer = typed ? setTimeout(() => expect(question, ""), FORGET) : null;
    for (const option of question.$refs.options ?? []) {
      option.parentElement.style.opacity = option.dataset.keyboard.startsWith(typed) ? "" : "0.35";
    }
  }

  /** Handles a key that was pressed in a question (a LabelSelectionComponent); false: Argilla handles it. */
  function pressed(question, event) {
    const inSearch = event.target === question.$refs.searchComponentRef?.searchInputRef;
    if (digits(question.options) === 1 || inSearch || event.ctrlKey || event.metaKey || event.altKey) return false;
    if (/^[0-9]$/.test(event.key)) {
      event.preventDefault();
      if (event.repeat) return true;
      const typed = question.keyCode + event.key;
      const finished = typed.length === digits(question.options);
      expect(question, finished ? "" : typed);
      if (finished) question.$refs.options.find((option) => option.dataset.keyboard === typed)?.click();
      return true;
    }
    if (!question.keyCode || event.key === "Shift") return false;
    expect(question, "");
    if (!["Enter", "Backspace", "Escape"].includes(event.key)) return false;
    event.preventDefault(); // a half-typed key is dropped; the record is neither submitted nor discarded
    event.stopPropagation();
    return true;
  }

  /** The questions to show: how severe a label is only while the label is ticked. */
  function shown(questions) {
    const labels = questions.find((question) => question.name === "labels")?.answer.values;
    if (!labels) return questions; // not a dataset of Marginalia
    const ticked = new Set(labels.filter((option) => option.isSelected).map((option) => `severity-${option.value}`));
    return questions.filter((question) => !question.name.startsWith("severity-") || ticked.has(question.name));
  }

  /** In the search for labels, Enter ticks the only label found, and Enter and Escape return to all labels. */
  function searched(event) {
    if (event.target.id !== "searchLabel" || !["Enter", "Escape"].includes(event.key)) return;
    const question = event.target.closest(".container");
    const found = question.querySelectorAll("input[data-keyboard]");
    if (event.key === "Enter" && found.length !== 1) return;
    event.preventDefault();
    event.stopPropagation();
    const option = found[0]?.id;
    if (event.key === "Enter") found[0].click();
    event.target.value = "";
    event.target.dispatchEvent(new Event("input"));
    setTimeout(() => (document.getElementById(option) ?? question.querySelector("input[data-keyboard]")).focus());
  }

  document.addEventListener("keydown", searched, true);
  return { keys, pressed, shown };
})();
