"""The openai-agents package runs its tool loop over both of OpenAI's APIs."""

import pytest
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from serving import serve

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
