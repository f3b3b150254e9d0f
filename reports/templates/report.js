// Adds what needs a script: the filter, the copy buttons, and Escape to close a panel. All else works without it.
(function () {
  "use strict";
  document.querySelectorAll(".code").forEach(function (box) {
    var pre = box.querySelector("pre");
    var button = document.createElement("button");
    button.type = "button";
    button.textContent = "copy";
    button.addEventListener("click", function () {
      var range = document.createRange();
      range.selectNodeContents(pre);
      var selection = window.getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      button.textContent = document.execCommand("copy") ? "copied" : "selected";
      setTimeout(function () { button.textContent = "copy"; }, 1500);
    });
    box.prepend(button);
  });

  document.addEventListener("keydown", function (event) {
    var open = document.querySelector(".panel:target");
    if (event.key === "Escape" && open) { location.hash = "#-"; }
  });

  document.querySelectorAll("table.matrix").forEach(function (table) { filtered(table, table.closest("section")); });

  function filtered(table, section) {
    var wanted = section.querySelector(".wanted");
    var problems = section.querySelector(".problems-only");
    var groups = Array.from(table.tHead.rows[0].cells).slice(1);
    var variants = Array.from(table.tHead.rows[1].cells);
    var rows = Array.from(table.tBodies[0].rows).map(function (row) {
      return { row: row, cells: Array.from(row.cells).slice(1).map(function (cell) {
        return { cell: cell, chips: Array.from(cell.children).map(function (chip) {
          return { chip: chip, text: chip.title.toLowerCase(), problem: /\b(refuted|open|error)\b/.test(chip.className) };
        }) };
      }) };
    });

    function apply() {
      var words = wanted.value.toLowerCase().split(/\s+/).filter(Boolean);
      var used = variants.map(function () { return false; });
      var shown = 0, total = 0;
      rows.forEach(function (line) {
        var any = false;
        line.cells.forEach(function (entry, column) {
          entry.chips.forEach(function (item) {
            var fits = words.every(function (word) { return item.text.includes(word); });
            var visible = fits && (item.problem || !problems.checked);
            item.chip.hidden = !visible;
            total += 1;
            if (visible) { any = true; used[column] = true; shown += 1; }
          });
        });
        line.row.hidden = !any;
      });
      var column = 0;
      groups.forEach(function (group) {
        var left = 0;
        for (var end = column + Number(group.dataset.span); column < end; column += 1) {
          variants[column].hidden = !used[column];
          left += used[column] ? 1 : 0;
        }
        group.hidden = left === 0;
        group.colSpan = Math.max(1, left);
      });
      rows.forEach(function (line) {
        line.cells.forEach(function (entry, at) { entry.cell.hidden = !used[at]; });
      });
      section.querySelector("output").textContent = shown === total ? total + " cells" : shown + " of " + total + " cells";
    }

    groups.forEach(function (group) { group.dataset.span = group.colSpan; });
    wanted.form.hidden = false;
    wanted.form.addEventListener("submit", function (event) { event.preventDefault(); });
    wanted.addEventListener("input", apply);
    problems.addEventListener("change", apply);
    apply();
  }
})();
