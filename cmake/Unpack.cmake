# Large binary files are kept packed in the repository: weights in bf16 lose a quarter of their size.
# Unpacks `archive` into `folder` unless `file`, one of what it holds, is there and not older.
function(mxgpt_unpack archive folder file)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${archive})
  if(NOT EXISTS ${folder}/${file} OR ${archive} IS_NEWER_THAN ${folder}/${file})
    message(STATUS "Unpacking ${archive}")
    file(ARCHIVE_EXTRACT INPUT ${archive} DESTINATION ${folder} TOUCH)
  endif()
endfunction()
