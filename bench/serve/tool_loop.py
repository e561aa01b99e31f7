#!/usr/bin/env python3
"""A tool loop with the openai-agents package: the model calls a tool, reads its result and answers.

    build/serve/bin/python bench/serve/tool_loop.py [--api chat|responses]

Asks the shipped model for the weather in several cities, streamed and not streamed. Each answer must contain the values
that the tool returned. Exit status 0 if all do.
"""

import argparse
import asyncio
import json
import os
import sys

import agents
from openai import AsyncOpenAI
from servers import ROOT, mxgpt, running

CITIES = {
    "Denver": (21, "sunny"),
    "Oslo": (-4, "snowy"),
    "Rome": (30, "sunny"),
    "Sofia": (17, "rainy"),
    "Lima": (12, "cloudy"),
}
called = []


@agents.function_tool
def get_weather(location: str) -> str:
    """Gets the current weather in a city.

    Args:
        location: The city name
    """
    called.append(location)
    temperature, sky = CITIES[location]
    return json.dumps({"temperature": temperature, "sky": sky}, separators=(",", ":"))


async def loop(url, api):
    agents.set_tracing_disabled(True)
    client = AsyncOpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
    kind = agents.OpenAIResponsesModel if api == "responses" else agents.OpenAIChatCompletionsModel
    agent = agents.Agent(
        name="weather",
        tools=[get_weather],
        model=kind(model="gpt-oss-nano", openai_client=client),
        model_settings=agents.ModelSettings(temperature=0, max_tokens=400),
    )
    right = 0
    for city, (temperature, sky) in CITIES.items():
        question = f"What is the weather in {city}?"
        called.clear()
        whole = await agents.Runner.run(agent, question)
        calls = list(called)
        streamed = agents.Runner.run_streamed(agent, question)
        async for _ in streamed.stream_events():
            pass
        ok = calls == [city] and called == [city] * 2 and whole.final_output == streamed.final_output
        ok = ok and str(temperature) in whole.final_output and sky in whole.final_output
        print(f"{'right' if ok else 'WRONG'}: {question} -> {called} -> {whole.final_output}")
        right += ok
    return right == len(CITIES)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--mxgpt", default=os.environ.get("MXGPT", str(ROOT / "build/release/mxgpt")), help="the program"
    )
    parser.add_argument("--api", choices=["chat", "responses"], default="chat")
    options = parser.parse_args()
    with running(mxgpt(options.mxgpt)) as server:
        sys.exit(0 if asyncio.run(loop(server.url, options.api)) else 1)


if __name__ == "__main__":
    main()
