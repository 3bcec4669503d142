"""The server (extra `serve`): OpenAI's completions, Mistral's fill-in-the-middle, templates with gaps, frames.

`engine` is the worker: rows in, looks at them out; it knows no HTTP and no text. `cohort` and `sharing` let rows that
came at different times share evaluations of the network over the one denoising loop. `reading` ends a text. `jobs` is
between the worker's thread and the event loop; `completions`, `infill` and `votes` answer requests; `guard`, `refusals`
and `metrics` stand around them; `app` puts them together, `server` runs it.
"""
