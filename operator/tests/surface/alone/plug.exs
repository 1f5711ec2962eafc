# As much of Plug, Jason and Finch as the plug of docs/operator-hosts.md needs; a request is printed instead of sent.
defmodule Plug do
  @callback init(any) :: any
  @callback call(any, any) :: any
end
defmodule Plug.Conn do
  def put_status(conn, status), do: Map.put(conn, :status, status)
  def send_chunked(conn, _), do: conn
  def chunk(conn, _), do: {:ok, conn}
  def send_resp(conn, _, _), do: conn
  def halt(conn), do: conn
  def read_body(conn, _), do: {:ok, "", conn}
  def prepend_resp_headers(conn, _), do: conn
  def put_resp_header(conn, _, _), do: conn
end
defmodule Jason do
  def encode!(text) when is_binary(text), do: ~s("#{text}")
  def encode!(number) when is_integer(number), do: Integer.to_string(number)
  def encode!(list) when is_list(list), do: "[#{Enum.map_join(list, ",", &encode!/1)}]"
  def encode!(map), do: "{#{Enum.map_join(map, ",", fn {key, value} -> "#{encode!(to_string(key))}:#{encode!(value)}" end)}}"
end
defmodule Finch do
  def build(method, url, headers, _body), do: {method, url, headers}
  def stream_while({method, url, headers}, _name, conn, next, _options) do
    {"x-threadline-grant", grant} = List.keyfind(headers, "x-threadline-grant", 0)
    IO.puts(Enum.join([method, url, grant], " "))
    {:cont, conn} = next.({:status, 200}, conn)
    {:cont, conn} = next.({:headers, [{"set-cookie", "a=b"}, {"content-type", "text/html"}]}, conn)
    {:cont, conn} = next.({:data, "x"}, conn)
    {:ok, conn}
  end
end
