"""The openai-agents package runs its tool loop over both of OpenAI's APIs."""
import sys
from pathlib import Path

import pytest
from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI

sys.path.insert(0, str(Path(__file__).parent))
from serving import serve  # noqa: E402

set_tracing_disabled(True)


@pytest.mark.parametrize("api", [OpenAIResponsesModel, OpenAIChatCompletionsModel])
def test_a_tool_loop(api):
    called = []

    @function_tool
    def get_weather(location: str) -> str:
        """Gets the current weather in a city.

        Args:
            location: The city name
        """
        called.append(location)
        return '{"temperature":21,"sky":"sunny"}'

    with serve() as server:
        model = api(model="gpt-oss-nano", openai_client=AsyncOpenAI(base_url=server.url + "/v1", api_key="none"))
        agent = Agent(name="weather", model=model, tools=[get_weather], model_settings=ModelSettings(temperature=0))
        result = Runner.run_sync(agent, "What is the weather in Denver?", max_turns=4)
    assert called == ["Denver"] and "21" in result.final_output
