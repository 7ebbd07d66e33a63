// Thresholds as the sliders show them: guard/label id → { threshold, start }. The record browser follows them.
const chosenThresholds = new Map(), thresholdChanges = new EventTarget();

const thresholdText = (value) => {  // as as_text.threshold
  if (value > 0 && value < 0.001) return value.toFixed(1 - Math.floor(Math.log10(value)));
  return value.toFixed(value >= 0.9995 && value < 1 ? 6 : 3);
};

// A table that is wider than its box gets a line that says so.
const widths = new ResizeObserver((changes) => {
  for (const { target } of changes) target.classList.toggle("cut", target.scrollWidth > target.clientWidth + 1);
});
const watchWidth = (box) => widths.observe(box);

{
  // Parts of the page that need this script are hidden until it runs; so is, from then on, what replaces them.
  for (const part of document.querySelectorAll("[data-with-script]")) part.hidden = false;
  for (const part of document.querySelectorAll("[data-without-script]")) part.hidden = true;
  document.querySelectorAll(".scroll").forEach(watchWidth);
}
