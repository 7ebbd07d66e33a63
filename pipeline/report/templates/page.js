// Thresholds as the sliders show them: guard/label id → { threshold, start }. The record browser follows them.
const chosenThresholds = new Map(), thresholdChanges = new EventTarget();

{
  // Parts of the page that need this script are hidden until it runs; so is, from then on, what replaces them.
  for (const part of document.querySelectorAll("[data-with-script]")) part.hidden = false;
  for (const part of document.querySelectorAll("[data-without-script]")) part.hidden = true;
}
