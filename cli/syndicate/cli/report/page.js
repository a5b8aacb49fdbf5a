"use strict";
/* Puts the figures into the page, and takes its colours for what Bokeh draws on canvas. */
Bokeh.logger.set_level("warn"); // set_log_level itself would log
(async () => {
  const given = JSON.parse(document.getElementById("figures").textContent);
  if (given.items.length === 0) return;
  await Bokeh.embed.embed_items(given.documents, given.items);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const paint = () => {
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--ink").trim();
    const quiet = style.getPropertyValue("--quiet").trim();
    const line = style.getPropertyValue("--line").trim();
    for (const name of given.figures) {
      const plot = Bokeh.documents[0].get_model_by_name(name);
      for (const axis of [...plot.below, ...plot.left]) {
        axis.setv({
          axis_label_text_color: quiet, major_label_text_color: ink,
          axis_line_color: quiet, major_tick_line_color: quiet,
        });
      }
      for (const grid of plot.center) grid.setv({grid_line_color: line});
    }
    for (const side of ["left", "right"]) {
      const names = Bokeh.documents[0].get_model_by_name("fault-names-" + side);
      if (names !== null) names.glyph.text_color = {value: ink};
    }
  };
  dark.addEventListener("change", paint);
  paint();
  document.documentElement.dataset.drawn = "yes";
})();
