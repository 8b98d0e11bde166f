"""The parts of the HTML report: what it is told, what it works out, and the page it is shown on."""
