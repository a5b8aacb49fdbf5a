"""What a job did on one page: read into a `Run`, reckoned by pure functions, drawn with Bokeh."""
