"""Full-model checks: the papers' experiments on trained networks, each with a statistic, an interval and a rule."""
